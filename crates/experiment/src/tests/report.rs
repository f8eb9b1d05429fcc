//! A report that has more problems than it keeps.

use serde_yaml::Value;
use variants::{presets::lora, spec::VariantSpec};

use super::{parse, yaml};
use crate::{
    error::Report,
    overlay::{overlay, whole},
    path::Path,
};

#[test]
fn problems_that_are_not_kept_are_counted() {
    let errors = |count: usize| {
        let seeds: Vec<String> = (0..count).map(|at| format!("x{at}")).collect();
        parse(&yaml(&format!("seeds: [{}]\n", seeds.join(", "))), &[]).unwrap_err()
    };
    let few = errors(200);
    assert_eq!((few.problems.len(), few.more), (200, 0));
    assert!(!few.to_string().contains("\n  and "), "{few}");
    let many = errors(1234);
    assert_eq!((many.problems.len(), many.more), (200, 1034));
    let shown = many.to_string();
    assert!(
        shown.starts_with("experiments/x.yaml: 1234 problems\n") && shown.ends_with("\n  and 1034 more"),
        "{shown}"
    );
    // One problem many times is one.
    let mut report = Report::default();
    for at in (0..300).chain(0..300) {
        report.add(&Path::default().index(at), "wrong");
    }
    let errors = report.into_errors("x", "", &[]);
    assert_eq!((errors.problems.len(), errors.more), (200, 100));
}

#[test]
fn a_report_that_is_full_still_tells_that_something_was_wrong() {
    let base = serde_yaml::to_value(lora::spec(4)).unwrap();
    let with: Value = serde_yaml::from_str("scaling: {kind: alpha_over_rank, value: 3}").unwrap();
    let at = Path::default().key("with");
    let mut report = Report::default();
    let read = |report: &mut Report| {
        let over = with.as_mapping().unwrap();
        let wrong = Value::String("many".to_owned());
        (overlay::<VariantSpec>(&base, over, &at, report).is_some(), whole::<u32>(&wrong, &at, report).is_some())
    };
    assert_eq!(read(&mut report), (false, false));
    // What is wrong again is in the report already.
    assert_eq!(read(&mut report), (false, false));
    for index in 0..300 {
        report.add(&Path::default().index(index), "wrong");
    }
    let mut full = Report::default();
    for index in 0..300 {
        full.add(&Path::default().index(index), "wrong");
    }
    assert_eq!(read(&mut full), (false, false));
}
