//! Validates single values wherever they occur: URIs, storage names, quantities, labels.

use std::collections::{BTreeMap, BTreeSet};

use super::Faults;
use crate::job::Provider;
use crate::{Quantity, quantity, suggest};

impl Faults<'_> {
    /// Requires a URI with a known scheme, and something after it.
    pub(super) fn uri(&mut self, path: &str, uri: &str, reading: bool) {
        const SCHEMES: [&str; 13] =
            ["s3", "s3a", "gs", "gcs", "az", "azure", "adl", "abfs", "abfss", "http", "https", "hf", "file"];
        if uri.trim().is_empty() {
            return self.push(path, "must not be empty");
        }
        if uri != uri.trim() {
            return self.push(path, format!("\"{uri}\" begins or ends with a space: leave it out"));
        }
        if !reading && uri.contains('*') {
            self.push(
                path,
                format!("\"{uri}\" has a glob, which only reading knows: write a directory that ends in /"),
            );
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            // Otherwise `s3:/bucket` would mean a local directory named `s3:`.
            if let Some((scheme, rest)) = uri.split_once(":/")
                && SCHEMES.contains(&scheme)
            {
                self.push(path, format!("\"{uri}\" lacks a slash: write {scheme}://{rest}"));
            }
            return;
        };
        let scheme = scheme.to_ascii_lowercase();
        if !SCHEMES.contains(&scheme.as_str()) {
            let message = match suggest::nearest(&scheme, SCHEMES) {
                Some(meant) => format!("{scheme}:// is not known, did you mean {meant}://{rest}?"),
                None => {
                    format!("{scheme}:// is not known: write a local path, s3://, gs://, az://, abfss:// or http(s)://")
                }
            };
            return self.push(path, message);
        }
        if rest.trim_start_matches('/').is_empty() && scheme != "file" {
            return self.push(path, format!("\"{uri}\" names nothing: write {scheme}://bucket/path"));
        }
        if !reading && Provider::of(uri) == Provider::Http {
            self.push(
                path,
                format!("{scheme}:// can only be read: write a local path, s3://, gs://, az:// or abfss://"),
            );
        }
    }

    /// Requires the name of an object in the namespace.
    pub(super) fn object_name(&mut self, path: &str, name: &str) {
        if !super::is_object_name(name) {
            let message = format!(
                "\"{name}\" names no object: write at most 253 lower-case letters, digits, - and ., beginning and ending with \
                 a letter or digit"
            );
            self.push(path, message);
        }
    }

    /// Validates the queries that must end first.
    pub(super) fn after(&mut self) {
        let mut seen = BTreeSet::new();
        for (i, after) in self.spec.after.iter().enumerate() {
            let path = format!("spec.after[{i}].query");
            if !super::validate_name(Some(&after.query)).is_empty() {
                self.push(path, format!("\"{}\" is no name that a query can have", after.query));
            } else if !seen.insert(after.query.as_str()) {
                self.push(path, format!("{} is named twice", after.query));
            }
        }
    }

    pub(super) fn storage_name(&mut self, path: &str, name: Option<&str>) {
        let Some(name) = name else { return };
        if self.spec.storages.contains_key(name) {
            return;
        }
        let message = match suggest::nearest(name, self.spec.storages.keys().map(String::as_str)) {
            Some(meant) => format!("no storage is named \"{name}\", did you mean \"{meant}\"?"),
            None => format!("no storage is named \"{name}\": describe it under spec.storages.{name}"),
        };
        self.push(path, message);
    }

    pub(super) fn readable(&mut self, path: &str, amount: &Quantity) -> Option<u128> {
        let milli = amount.milli();
        if milli.is_none() {
            self.push(path, format!("\"{amount}\" is not a quantity: write {}", quantity::EXAMPLES));
        }
        milli
    }

    pub(super) fn above_zero(&mut self, path: &str, amount: &Quantity) {
        if self.readable(path, amount) == Some(0) {
            self.push(path, "must be above 0, such as 1 or 500m");
        }
    }

    pub(super) fn at_least(&mut self, path: &str, amount: &Quantity, least: &str) {
        let Some(milli) = self.readable(path, amount) else { return };
        let Some(least_milli) = Quantity::new(least).milli() else { return };
        if milli >= least_milli {
            return;
        }
        // `memory: 2` is two bytes, which nobody means.
        let bare = amount.as_str().chars().all(|c| c.is_ascii_digit() || c == '.') && milli > 0 && milli < 4_096_000;
        let message = match bare {
            true => format!("{amount} is {amount} bytes, did you mean {amount}Gi?"),
            false => format!("must be at least {least}, is {amount}"),
        };
        self.push(path, message);
    }

    pub(super) fn labels(&mut self, path: &str, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            self.label_key(path, key);
            let ends = |c: char| c.is_ascii_alphanumeric();
            let ok = value.len() <= 63
                && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
                && (value.is_empty() || (value.starts_with(ends) && value.ends_with(ends)));
            if !ok {
                self.push(
                    format!("{path}.{key}"),
                    format!("\"{value}\" is not a label value: write at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit"),
                );
            }
        }
    }

    pub(super) fn label_key(&mut self, path: &str, key: &str) {
        if let Err(message) = is_label_key(key) {
            self.push(path, message);
        }
    }
}

/// Whether this is the key of a label that users may set; the error says what to write.
pub(super) fn is_label_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let ends = |c: char| c.is_ascii_alphanumeric();
    let name_ok = (1..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && name.starts_with(ends)
        && name.ends_with(ends);
    let prefix_ok = prefix.is_none_or(|p| {
        (1..=253).contains(&p.len())
            && p.split('.').all(|part| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            })
    });
    if !name_ok || !prefix_ok {
        return Err(format!(
            "\"{key}\" is not a label key: write letters, digits, -, _ and ., such as team or example.com/team"
        ));
    }
    match prefix.is_some_and(|p| p == "floe.dev" || p.ends_with(".floe.dev")) {
        true => Err(format!("{key}: keys under floe.dev/ are Floe's own")),
        false => Ok(()),
    }
}
