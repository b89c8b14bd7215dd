//! Collects Polars' warnings in the tasks of one query, each once however many tasks raised it.

use floe_wire::error::QueryError;
use floe_wire::task::Warning;

/// Distinct warnings to keep; of the others, only record whether there were any.
const MAX_WARNINGS: usize = 32;

#[derive(Clone, Debug, Default)]
pub struct Warned {
    all: Vec<Warning>,
    more: bool,
}

impl Warned {
    pub fn add(&mut self, warnings: impl IntoIterator<Item = Warning>) {
        for warning in warnings {
            let room = self.all.len() < MAX_WARNINGS;
            match self.all.iter_mut().find(|known| known.text == warning.text) {
                Some(known) => known.sure |= warning.sure,
                None if room => self.all.push(warning),
                None => self.more = true,
            }
        }
    }

    /// The warnings without those in `reported`, which the user has already read.
    pub fn texts(&self, reported: &[String]) -> Vec<String> {
        let new = self.all.iter().filter(|warning| !reported.contains(&warning.text));
        let mut texts: Vec<String> = new.map(shown).collect();
        if self.more {
            texts.push(format!("Polars: there were more than {MAX_WARNINGS} different warnings"));
        }
        texts
    }

    /// The first warning that is certainly this query's, as an error: one that may be another query's fails none.
    pub fn as_error(&self) -> Option<QueryError> {
        let sure = self.all.iter().find(|warning| warning.sure);
        sure.map(|warning| QueryError::user("WarningAsError", warning.text.clone()))
    }
}

fn shown(warning: &Warning) -> String {
    match warning.sure {
        true => warning.text.clone(),
        false => format!("{} (or of another query that ran on the same worker)", warning.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(text: &str, sure: bool) -> Warning {
        Warning { text: text.to_string(), sure }
    }

    #[test]
    fn each_warning_is_reported_once_up_to_a_limit() {
        let mut warned = Warned::default();
        assert_eq!((warned.texts(&[]).len(), warned.as_error()), (0, None));
        warned.add([warning("a", false), warning("b", false)]);
        assert_eq!(warned.as_error(), None);
        assert_eq!(warned.texts(&["a".to_string()]), ["b (or of another query that ran on the same worker)"]);
        warned.add([warning("a", true), warning("a", false)]);
        assert_eq!(warned.texts(&[])[0], "a");
        assert_eq!(warned.as_error().unwrap().message, "a");
        warned.add((0..100).map(|i| warning(&format!("{i}"), true)));
        let texts = warned.texts(&[]);
        assert_eq!(texts.len(), MAX_WARNINGS + 1);
        assert!(texts.last().unwrap().contains("more than 32"));
    }
}
