//! Scratch: a page from a folder of results.
use std::path::Path;
fn main() {
    let names: Vec<String> = std::env::args().skip(2).collect();
    let t = std::time::Instant::now();
    let made: Vec<_> = names.iter().map(|name| {
        let store = record::Store::open(Path::new("results"), name).unwrap();
        let records = store.all().unwrap();
        let tuned = store.tuned().unwrap();
        let mut tasks = vec![]; let mut variants: Vec<String> = vec![];
        for r in &records { if !tasks.contains(&r.cell.task) { tasks.push(r.cell.task.clone()); } }
        for r in &records { for e in &r.evaluations { if !variants.contains(&e.readout.label) { variants.push(e.readout.label.clone()); } } }
        let study = analysis::study::Study { name: name.clone(), title: "A title that says <b>what</b> it is about.".into(), tasks, baseline: variants.contains(&"lora".to_string()).then(|| "lora".into()), variants, tuned, matched: "matched over all variants: accumulate, adapter dropout, base model, batch, beta1, beta2".into(), ..Default::default() };
        let mut m = vec![];
        for f in report::FILES { if let Ok(t) = std::fs::read_to_string(format!("results/{name}/analysis/{f}")) { m.push((f.to_owned(), t)); } }
        let text = std::fs::read_to_string(format!("experiments/{name}.yaml")).unwrap_or_default();
        (study, records, m, text)
    }).collect();
    eprintln!("read {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let sources: Vec<_> = made.iter().map(|(study, records, m, text)| report::Source { study, records, planned: records.len(), notes: &[], text, measures: m }).collect();
    let page = report::html(&sources).unwrap();
    eprintln!("html {:?} {} bytes", t.elapsed(), page.len());
    std::fs::write(std::env::args().nth(1).unwrap(), page).unwrap();
}
