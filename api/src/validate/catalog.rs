//! Validates catalogs, and the tables and sinks that name one.

use super::Faults;
use crate::data::table_parts;
use crate::{Format, suggest};

impl Faults<'_> {
    pub(super) fn catalogs(&mut self) {
        for (name, catalog) in &self.spec.catalogs {
            let path = format!("spec.catalogs.{name}");
            // Tables are named `catalog.namespace.name`.
            if name.trim().is_empty() {
                self.push("spec.catalogs", "a catalog's name must not be empty");
            } else if name.contains('.') || name.contains(char::is_whitespace) {
                self.push(&path, format!("\"{name}\" cannot name a catalog: leave out dots and spaces"));
            }
            for (field, uri) in [("uri", Some(&catalog.uri)), ("oauth2ServerUri", catalog.oauth2_server_uri.as_ref())] {
                let Some(uri) = uri else { continue };
                let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
                match rest {
                    None => self.push(
                        format!("{path}.{field}"),
                        format!("\"{uri}\" is no address of a server: write https://… or http://…"),
                    ),
                    Some(rest) if rest.is_empty() || rest.starts_with('/') || uri.contains(char::is_whitespace) => {
                        self.push(format!("{path}.{field}"), format!("\"{uri}\" names no server"));
                    }
                    // The address is shown in messages, and a password in it would be, too.
                    Some(rest) if rest.split('/').next().is_some_and(|host| host.contains('@')) => self.push(
                        format!("{path}.{field}"),
                        "has a user and password: put them into the Secret of secretRef, as credential",
                    ),
                    Some(_) => {}
                }
            }
            if let Some(secret) = &catalog.secret_ref {
                self.object_name(&format!("{path}.secretRef.name"), &secret.name);
            }
            if catalog.options.keys().any(|k| k.trim().is_empty()) {
                self.push(format!("{path}.options"), "an option's name must not be empty");
            }
        }
    }

    /// Requires a URI, or a catalog and a table. Returns whether the URI is to be looked at.
    pub(super) fn place(&mut self, path: &str, uri: &str, catalog: Option<&str>, table: Option<&str>) -> bool {
        match (uri, catalog, table) {
            ("", None, None) => {
                self.push(format!("{path}.uri"), "is missing: write uri, or catalog and table");
                return false;
            }
            (_, None, None) => return true,
            ("", None, Some(_)) => self.push(format!("{path}.catalog"), "is missing: table needs it"),
            ("", Some(_), None) => {
                self.push(format!("{path}.table"), "is missing: write the table's name in the catalog, namespace.name");
            }
            ("", Some(_), Some(_)) => {}
            (_, _, _) => {
                let message = "excludes catalog and table, which say where the table is: write either";
                self.push(format!("{path}.uri"), message);
            }
        }
        if let Some(name) = catalog
            && !self.spec.catalogs.contains_key(name)
        {
            let message = match suggest::nearest(name, self.spec.catalogs.keys().map(String::as_str)) {
                Some(meant) => format!("no catalog is named \"{name}\", did you mean \"{meant}\"?"),
                None => format!("no catalog is named \"{name}\": describe it under spec.catalogs.{name}"),
            };
            self.push(format!("{path}.catalog"), message);
        }
        if let Some(table) = table
            && table_parts(table).is_none()
        {
            let message = format!("\"{table}\" is no name of a table: write namespace.name");
            self.push(format!("{path}.table"), message);
        }
        false
    }
}

pub(super) fn not_iceberg(format: Format) -> String {
    format!("is {}, and a table of a catalog is an iceberg table: leave it out", format.as_str())
}
