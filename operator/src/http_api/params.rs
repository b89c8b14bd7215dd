//! Parameters of URLs: declared once, parsed by the server and described in the OpenAPI document.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use url::form_urlencoded;

use super::problem::{Kind, Problem};

pub struct Param {
    pub name: &'static str,
    pub about: &'static str,
    pub form: Form,
}

pub enum Form {
    Text { most: usize },
    Int { least: u64, most: u64 },
    Choice(&'static [&'static str]),
}

impl Form {
    pub fn schema(&self) -> Value {
        match self {
            Form::Text { most } => json!({"type": "string", "maxLength": most}),
            Form::Int { least, most } => json!({"type": "integer", "minimum": least, "maximum": most}),
            Form::Choice(words) => json!({"type": "string", "enum": words}),
        }
    }

    fn fault(&self, text: &str) -> Option<String> {
        match self {
            Form::Text { most } if text.chars().count() > *most => Some(format!("may have at most {most} characters")),
            Form::Text { .. } => None,
            Form::Int { least, most } => {
                let plain = text.bytes().all(|byte| byte.is_ascii_digit());
                let number = text.parse::<u64>().ok().filter(|number| plain && (*least..=*most).contains(number));
                number.is_none().then(|| format!("must be a whole number from {least} to {most}, is \"{text}\""))
            }
            Form::Choice(words) if words.contains(&text) => None,
            Form::Choice(words) => Some(format!("must be one of {}, is \"{text}\"", words.join(", "))),
        }
    }
}

/// The given parameters, validated against their declarations.
#[derive(Debug, Default)]
pub struct Params(BTreeMap<&'static str, String>);

impl Params {
    pub fn read(query: &str, declared: &'static [Param]) -> Result<Params, Problem> {
        let mut given = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(param) = declared.iter().find(|param| param.name == name) else {
                let names: Vec<&str> = declared.iter().map(|param| param.name).collect();
                let known = if names.is_empty() { "there is none here".to_owned() } else { names.join(", ") };
                return Err(Problem::field(Kind::BadRequest, &name, format!("is no parameter: {known}")));
            };
            if let Some(fault) = param.form.fault(&value) {
                return Err(Problem::field(Kind::BadRequest, param.name, fault));
            }
            if given.insert(param.name, value.into_owned()).is_some() {
                return Err(Problem::field(Kind::BadRequest, param.name, "is given twice"));
            }
        }
        Ok(Params(given))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: &[Param] = &[
        Param { name: "limit", about: "", form: Form::Int { least: 1, most: 500 } },
        Param { name: "format", about: "", form: Form::Choice(&["json", "csv"]) },
        Param { name: "continue", about: "", form: Form::Text { most: 4 } },
    ];

    #[test]
    fn parameters_are_read_and_faults_name_them() {
        let params = Params::read("limit=5&format=csv&continue=a%20b", PARAMS).unwrap();
        assert_eq!(
            (params.number("limit"), params.text("format"), params.text("continue")),
            (Some(5), Some("csv"), Some("a b"))
        );
        assert_eq!(Params::read("", PARAMS).unwrap().number("limit"), None);
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=%2B5", "limit"),
            ("limit=", "limit"),
            ("limit=1&limit=2", "limit"),
            ("format=xml", "format"),
            ("continue=abcde", "continue"),
            ("limits=1", "limits"),
        ] {
            let problem = Params::read(query, PARAMS).unwrap_err();
            assert_eq!((problem.kind, problem.errors[0].field.as_str()), (Kind::BadRequest, field), "{query}");
        }
    }
}
