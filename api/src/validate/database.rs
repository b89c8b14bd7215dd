//! Validates tables that are in databases.

use super::Faults;
use crate::{Format, TableSpec};

/// Whether a URI is that of a database.
pub(super) fn is_named(uri: &str) -> bool {
    uri.starts_with("postgres://") || uri.starts_with("postgresql://")
}

impl Faults<'_> {
    pub(super) fn of_database(&mut self, path: &str, table: &TableSpec) {
        if table.format != Some(Format::Postgres) {
            let message = match table.format {
                None => "is missing: write format: postgres".to_owned(),
                Some(format) => format!("is {}, but the uri is that of a database: write postgres", format.as_str()),
            };
            self.push(format!("{path}.format"), message);
        }
        if table.catalog.is_some() {
            self.push(format!("{path}.catalog"), "is for tables of catalogs: leave it out, or format: postgres");
        }
        self.database_uri(&format!("{path}.uri"), &table.uri);
        match (&table.table, &table.query) {
            (None, None) => {
                self.push(format!("{path}.table"), "is missing: name a table (schema.name), or write query")
            }
            (Some(_), Some(_)) => self.push(format!("{path}.query"), "excludes table: write either"),
            (Some(text), None) if text.trim().is_empty() => self.push(format!("{path}.table"), "must not be empty"),
            (None, Some(text)) if text.trim().is_empty() => {
                self.push(format!("{path}.query"), "must not be empty: write SELECT …");
            }
            _ => {}
        }
        if table.options.contains_key("password") {
            let message =
                "does not belong here: keep it in the Secret of a storage (secretRef), which table.storage names";
            self.push(format!("{path}.options.password"), message);
        }
        let Some(partition) = &table.partition else { return };
        let by_value = partition.by == Some(crate::PartitionBy::Value);
        if !partition.bounds.is_empty() && (partition.count.is_some() || by_value) {
            let message = "are ranges, and say how many there are: leave count and by out";
            self.push(format!("{path}.partition.bounds"), message);
        }
    }

    fn database_uri(&mut self, path: &str, uri: &str) {
        const FORM: &str = "write postgres://user@host:5432/database";
        let Some(rest) = uri.strip_prefix("postgres://").or_else(|| uri.strip_prefix("postgresql://")) else {
            let message = match uri {
                "" => format!("is missing: {FORM}"),
                // Whatever it is, it may have a password in it.
                _ => format!("is not that of a PostgreSQL database: {FORM}"),
            };
            return self.push(path, message);
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') {
            self.push(path, "has a password: put it into the Secret of a storage (secretRef), as password");
        }
        if host.is_empty() {
            self.push(path, format!("names no host: {FORM}"));
        }
        if rest
            .split_once('?')
            .is_some_and(|(_, parameters)| parameters.split('&').any(|parameter| parameter.starts_with("password=")))
        {
            self.push(path, "has a password among its parameters: put it into the Secret of a storage (secretRef)");
        }
    }
}
