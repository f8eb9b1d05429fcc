//! Quality against cost: which methods no cheaper one equals.

use super::super::{Chart, Content, Figure, Look, Panel, Point, Scale, Series, Width};
use super::{Caption, axis};

/// A method at its cost.
#[derive(Clone, Debug, PartialEq)]
pub struct AtCost {
    /// Its label.
    pub name: String,
    /// What it costs, above 0.
    pub cost: f64,
    /// Its quality; larger is better.
    pub value: f64,
}

/// The methods that are better than all that cost as much or less, from the cheapest on: the Pareto front. Of equals the first stands.
pub fn front(methods: &[AtCost]) -> Vec<&AtCost> {
    let mut order: Vec<&AtCost> = methods.iter().collect();
    order.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(b.value.total_cmp(&a.value)));
    let mut best = f64::NEG_INFINITY;
    order.retain(|method| {
        let is_better = method.value > best;
        best = best.max(method.value);
        is_better
    });
    order
}

/// Every method as a dot over its cost, on a logarithmic axis, and the Pareto front as a line.
pub fn pareto(caption: Caption, cost: &str, value: &str, methods: &[AtCost]) -> Figure {
    let Caption { title, n, notes } = caption;
    let on_front = front(methods);
    let point = |method: &AtCost| Point::new(method.cost, method.value);
    let on_line = on_front.iter().map(|method| point(method)).collect();
    let rest: Vec<Point> = methods.iter().filter(|method| !on_front.contains(method)).map(point).collect();
    let mut series = vec![Series { name: "Pareto front".to_owned(), look: Look::Line, points: on_line }];
    if !rest.is_empty() {
        series.push(Series { name: "other methods".to_owned(), look: Look::Dots, points: rest });
    }
    let panel = Panel {
        title: String::new(),
        remark: String::new(),
        x: axis(cost, "", Scale::Log10),
        y: axis(value, "×100", Scale::Linear),
        content: Content::Chart(Chart { series, colour: None }),
    };
    Figure { title, width: Width::Column, columns: 1, aspect: 0.8, panels: vec![panel], n, notes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_what_no_cheaper_method_equals() {
        let of = |name: &str, cost, value| AtCost { name: name.to_owned(), cost, value };
        let methods = [
            of("dear", 100.0, 80.0),
            of("worse", 10.0, 60.0),
            of("cheap", 1.0, 50.0),
            of("same", 10.0, 70.0),
            of("also", 10.0, 70.0),
            of("dominated", 50.0, 70.0),
        ];
        let names: Vec<&str> = front(&methods).iter().map(|method| method.name.as_str()).collect();
        assert_eq!(names, ["cheap", "same", "dear"]);
        assert!(front(&[]).is_empty());
    }
}
