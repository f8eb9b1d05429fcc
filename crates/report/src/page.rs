//! The file: the template with its style, its script, the plotting library and the views as JSON.

use analysis::figure::SERIES;
use minijinja::{Environment, Value, context, value::Serde};
use serde::Serialize;

use crate::{ReportError, study::StudyView};

/// The plotting library as it was published; see `assets`.
pub(crate) const PLOTLY: &str = include_str!("../assets/plotly-basic.min.js");
/// Its licence, which travels with it.
const LICENSE: &str = include_str!("../assets/plotly-basic.LICENSE");
const TEMPLATE: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/style.css");
/// The script, in the order in which its parts need each other.
const SCRIPT: [&str; 5] = [
    include_str!("../page/base.js"),
    include_str!("../page/table.js"),
    include_str!("../page/chart.js"),
    include_str!("../page/run.js"),
    include_str!("../page/main.js"),
];

/// A value as JSON that may stand in a `script` element: no `<` can end it.
pub(crate) fn data<T: Serialize>(value: &T) -> Result<String, ReportError> {
    Ok(serde_json::to_string(value)?.replace('<', "\\u003c"))
}

/// The page.
pub(crate) fn render(studies: &[StudyView]) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    // `.html` switches escaping on.
    environment.add_template("page.html", TEMPLATE)?;
    environment.add_filter("signed", |value: f64| format!("{value:+.2}"));
    let safe = |text: &str| Value::from_safe_string(text.to_owned());
    let json: Vec<Value> = studies.iter().map(|study| safe(&study.data)).collect();
    let chunks: Vec<Vec<Value>> =
        studies.iter().map(|study| study.chunks.iter().map(|chunk| safe(chunk)).collect()).collect();
    let names: Vec<&str> = studies.iter().map(|study| study.name.as_str()).collect();
    let palette: Vec<String> = SERIES.iter().map(|[r, g, b]| format!("#{r:02x}{g:02x}{b:02x}")).collect();
    // No author of a record can know a hash of the whole before it is made, so no text of theirs can carry it.
    let all: Vec<&str> = studies.iter().flat_map(|study| [study.data.as_str(), &study.text]).collect();
    let nonce = record::sha256_hex(all.concat().as_bytes());
    let page = environment.get_template("page.html")?.render(context! {
        title => names.join(", "),
        studies => Value::from(Serde(studies)),
        json,
        chunks,
        nonce,
        palette => safe(&data(&palette)?),
        style => safe(STYLE),
        script => safe(&SCRIPT.concat()),
        plotly => safe(PLOTLY),
        license => LICENSE,
    })?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plotting_library_is_the_published_one() {
        // plotly.js-basic-dist-min 4.1.1 of the npm registry, plotly-basic.min.js.
        let want = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba";
        assert_eq!(record::sha256_hex(PLOTLY.as_bytes()), want);
    }

    #[test]
    fn no_script_of_ours_can_end_its_element() {
        for text in SCRIPT.iter().chain([&PLOTLY]) {
            assert!(!text.to_lowercase().contains("</script") && !text.contains("<!--"));
        }
        assert!(!STYLE.to_lowercase().contains("</style"));
    }

    #[test]
    fn data_cannot_end_its_element() {
        assert_eq!(data(&"</script><!--").unwrap(), r#""\u003c/script>\u003c!--""#);
    }
}
