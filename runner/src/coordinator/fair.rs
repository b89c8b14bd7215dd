//! Assigns queries to groups (users, teams) among which the workers are shared evenly. Pure.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use floe_scheduler::cluster::Group;

/// Groups queries by the value of one label; each group has one share.
#[derive(Clone, Debug, Default)]
pub struct Fair {
    pub label: String,
    /// Weights by label value; 1 if absent.
    pub weights: BTreeMap<String, u32>,
}

impl Fair {
    /// Returns a query's group; queries without the label form one group.
    pub fn group(&self, labels: &BTreeMap<String, String>) -> Group {
        let value = labels.get(&self.label).map_or("", String::as_str);
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Group { id: hasher.finish(), weight: self.weights.get(value).copied().unwrap_or(1).max(1) }
    }
}

/// Parses `alice=2`.
pub fn parse_weight(text: &str) -> Result<(String, u32), String> {
    let (value, weight) = text.rsplit_once('=').ok_or("write VALUE=WEIGHT, such as alice=2")?;
    let weight: u32 = weight.parse().map_err(|_| format!("{weight} is no whole number"))?;
    Ok((value.to_owned(), weight.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_group_and_so_is_its_absence() {
        let fair = Fair { label: "user".into(), weights: [parse_weight("al=ice=2").unwrap()].into() };
        let labels = |value: &str| BTreeMap::from([("user".to_owned(), value.to_owned())]);
        let alice = fair.group(&labels("al=ice"));
        assert_eq!(alice.weight, 2);
        assert_eq!(alice, fair.group(&labels("al=ice")));
        assert_ne!(alice.id, fair.group(&labels("bob")).id);
        assert_eq!(fair.group(&BTreeMap::new()), fair.group(&BTreeMap::from([("team".into(), "x".into())])));
        assert!(parse_weight("alice").is_err() && parse_weight("alice=many").is_err());
    }
}
