//! Which figures made-up records and adapters give.

use record::StepEntry;

use super::*;
use crate::{
    figure::{Content, Figure, render},
    measures::{
        study::Measures,
        tests::{MAPS, dense, sample},
    },
    study::Study,
    summary::{Selection, summarise, tests::run},
};

fn study(variants: &[String], tasks: &[String]) -> Study {
    Study {
        name: "probe".to_owned(),
        variants: variants.to_vec(),
        tasks: tasks.to_vec(),
        baseline: Some("lora".to_owned()),
        ..Study::default()
    }
}

fn names(figures: &[Named]) -> Vec<&str> {
    figures.iter().map(|named| named.name.as_str()).collect()
}

fn draws(figure: &Figure) {
    let drawn = render(figure).unwrap();
    assert_eq!(drawn, render(figure).unwrap());
    let text = serde_json::to_string(figure).unwrap();
    assert_eq!(serde_json::from_str::<Figure>(&text).unwrap(), *figure, "a description says everything");
}

#[test]
fn ranks_make_curves_and_single_ranks_make_dots() {
    let (variants, tasks) = (["lora", "dora"].map(str::to_owned), ["cola".to_owned()]);
    let one_rank: Vec<_> = [("lora", 0.5), ("dora", 0.6)]
        .into_iter()
        .flat_map(|(variant, mean)| [1, 2, 3].map(|seed| run("cola", variant, 8, seed, mean + 0.01 * seed as f64)))
        .collect();
    let about = study(&variants, &tasks);
    let summary = summarise(&one_rank, Selection::Last).unwrap();
    let figures = records::from_summary(&about, &summary, "validation").unwrap();
    assert_eq!(names(&figures), ["comparison"]);
    let Content::Chart(chart) = &figures[0].figure.panels[0].content else { panic!("dots are a chart") };
    assert!((chart.series[0].points[0].x - 52.0).abs() < 1e-9, "lora's mean in percent: {:?}", chart.series[0]);
    draws(&figures[0].figure);
    let mut swept = one_rank;
    swept.extend([1, 2, 3].map(|seed| run("cola", "lora", 4, seed, 0.4)));
    // One method over ranks among others is a dot at its largest rank.
    let figures = records::from_summary(&about, &summarise(&swept, Selection::Last).unwrap(), "validation").unwrap();
    assert_eq!(names(&figures), ["comparison"]);
    let Content::Chart(chart) = &figures[0].figure.panels[0].content else { panic!("dots are a chart") };
    assert!((chart.series[0].points[0].x - 52.0).abs() < 1e-9, "lora at rank 8: {:?}", chart.series[0]);
    swept.extend([1, 2, 3].map(|seed| run("cola", "dora", 4, seed, 0.5)));
    let summary = summarise(&swept, Selection::Last).unwrap();
    let figures = records::from_summary(&about, &summary, "validation").unwrap();
    assert_eq!(names(&figures), ["rank_curves"]);
    draws(&figures[0].figure);
}

#[test]
fn training_curves_average_windows_and_split_many_series() {
    let variants: Vec<String> = (0..10).map(|index| format!("v{index}")).collect();
    let tasks = ["cola".to_owned()];
    let records: Vec<_> = variants
        .iter()
        .flat_map(|variant| [1, 2].map(|seed| run("cola", variant, 8, seed, 0.5)))
        .map(|mut record| {
            for step in 1..=25 {
                let task_loss = step as f64;
                record.steps.push(StepEntry {
                    step,
                    task_loss,
                    penalty: None,
                    learning_rate: 1e-3,
                    gradient_norm: 1.0,
                    components: None,
                });
            }
            record
        })
        .collect();
    let figures = records::training(&study(&variants, &tasks), &records);
    assert_eq!(names(&figures), ["training-1", "training-2"]);
    let Content::Chart(chart) = &figures[0].figure.panels[0].content else { panic!("curves are a chart") };
    assert_eq!(chart.series.len(), 8);
    let points: Vec<(f64, f64)> = chart.series[0].points.iter().map(|point| (point.x, point.y)).collect();
    assert_eq!(points, [(10.0, 5.5), (20.0, 15.5)], "five steps are no window");
    draws(&figures[0].figure);
}

#[test]
fn only_pruned_runs_have_an_allocation() {
    let variants = ["adalora".to_owned()];
    let tasks = ["cola".to_owned()];
    let mut records: Vec<_> = [1, 2].map(|seed| run("cola", "adalora", 4, seed, 0.5)).into();
    for record in &mut records {
        record.measured.final_ranks = MAPS.iter().map(|map| ((*map).to_owned(), 4)).collect();
    }
    let about = study(&variants, &tasks);
    assert!(records::allocation(&about, &records, &|_| Vec::new()).is_empty());
    for (seed, record) in records.iter_mut().enumerate() {
        record.measured.final_ranks.insert(MAPS[0].to_owned(), 1 + 2 * seed);
        record.measured.final_ranks.insert(MAPS[3].to_owned(), 3 - 2 * seed);
    }
    let figures = records::allocation(&about, &records, &|_| vec![(0, 16), (25, 12)]);
    assert_eq!(names(&figures), ["ranks"]);
    let Content::Heatmap(heat) = &figures[0].figure.panels[0].content else { panic!("ranks are a heat map") };
    assert_eq!(heat.matrix.values, [Some(2.0), Some(4.0), Some(4.0), Some(2.0)]);
    draws(&figures[0].figure);
}

#[test]
fn measured_budgets_stand_beside_the_schedule() {
    let names = |differs: bool| {
        let mut records: Vec<_> = [1, 2].map(|seed| run("cola", "adalora", 4, seed, 0.5)).into();
        for (at, record) in records.iter_mut().enumerate() {
            record.measured.final_ranks = MAPS.iter().map(|map| ((*map).to_owned(), 2)).collect();
            record.steps = (1..=25)
                .map(|step| StepEntry {
                    step,
                    task_loss: 0.5,
                    penalty: None,
                    learning_rate: 1e-3,
                    gradient_norm: 1.0,
                    components: Some(if differs && at == 1 { 8 } else { 16 }),
                })
                .collect();
        }
        let (variants, tasks) = (["adalora".to_owned()], ["cola".to_owned()]);
        let figures = records::allocation(&study(&variants, &tasks), &records, &|_| vec![(0, 16), (24, 8)]);
        draws(&figures[0].figure);
        let Some(Content::Chart(chart)) = figures[0].figure.panels.last().map(|panel| &panel.content) else {
            panic!("a budget is a chart")
        };
        assert_eq!((chart.series[0].points[0].x, chart.series[0].points[0].y), (0.0, 16.0));
        chart.series.iter().map(|series| series.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(false), ["kept", "schedule"]);
    assert_eq!(names(true), ["kept, seed 1", "kept, seed 2", "schedule"]);
}

#[test]
fn adapters_of_several_ranks_and_seeds_make_every_subspace_figure() {
    let samples: Vec<_> =
        [2, 4].into_iter().flat_map(|rank| [0, 1, 2].map(|seed| sample("lora", rank, seed))).collect();
    let figures = subspaces::all("probe", &Measures::of(samples).unwrap()).unwrap();
    assert_eq!(
        names(&figures),
        ["phi_ranks", "phi_ranks_all", "phi_seeds", "seed_overlap", "phi_base", "amplification", "dynamics"]
    );
    for named in &figures {
        draws(&named.figure);
    }
}

#[test]
fn methods_that_are_compared_show_their_dynamics_alone() {
    let samples = [sample("lora", 3, 0), sample("lora", 3, 1), dense(0), dense(1)];
    let figures = subspaces::all("probe", &Measures::of(samples).unwrap()).unwrap();
    assert_eq!(names(&figures), ["dynamics"]);
    assert_eq!(figures[0].figure.panels.len(), 2);
    draws(&figures[0].figure);
}

#[test]
fn deep_models_get_several_pages_in_the_order_of_their_layers() {
    let deep = |rank, seed| {
        let mut deep = sample("lora", rank, seed);
        deep.snapshots.clear();
        let (first, second) = (deep.maps[MAPS[0]].clone(), deep.maps[MAPS[1]].clone());
        deep.maps = (0..24)
            .flat_map(|layer| {
                let name = |kind: &str| format!("encoder.layer.{layer}.attention.self.{kind}");
                [(name("query"), first.clone()), (name("value"), second.clone())]
            })
            .collect();
        deep
    };
    let figures = subspaces::all("probe", &Measures::of([deep(2, 0), deep(4, 1)]).unwrap()).unwrap();
    let pages: Vec<_> = figures.iter().filter(|named| named.name.starts_with("phi_ranks_all")).collect();
    assert_eq!(pages.iter().map(|page| page.name.as_str()).collect::<Vec<_>>(), ["phi_ranks_all-1", "phi_ranks_all-2"]);
    let titles: Vec<_> =
        pages.iter().flat_map(|page| page.figure.panels.iter().map(|panel| panel.title.as_str())).collect();
    assert_eq!(titles.len(), 48);
    assert_eq!((titles[4], titles[47]), ("query, layer 2", "value, layer 23"));
    for page in pages {
        draws(&page.figure);
    }
}
