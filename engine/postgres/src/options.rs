//! What a table's `uri` and options say, checked. The password is nowhere in what is printed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use url::form_urlencoded;

use crate::error::spec;
use crate::tls::Tls;
use floe_wire::error::Result;

/// As many connections as a query opens to one database unless `connections` says otherwise.
const CONNECTIONS: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection that holds a snapshot is silent for as long as the query takes; firewalls forget such ones.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KNOWN: &str = "table or query, partition, connections, user, password, sslmode, sslrootcert, sslcert, sslkey";

/// What a source is made of, for whoever has to make it again: the password is among it, so it is not to be printed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Given {
    uri: String,
    options: BTreeMap<String, Value>,
    secret: BTreeMap<String, String>,
}

/// A table or query of a database, and how it is to be read.
#[derive(Clone)]
pub struct Source {
    given: Given,
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    pub what: What,
    pub partition: Option<Partition>,
    /// At most so many connections read at one time.
    pub connections: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// As SQL writes it: `orders`, `sales.orders`, `"Orders"`.
    Table(String),
    /// A SELECT, whose rows are read as if they were a table's.
    Query(String),
}

/// How the parts are cut, if not by where the rows lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub column: String,
    pub by: By,
    pub count: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Ranges of the column, cut at what the statistics say or between the lowest and the highest value.
    Range,
    /// Ranges that end before each of these, as the database writes them.
    Bounds(Vec<String>),
    /// The distinct values, each in one part: for columns of few.
    Value,
}

impl Source {
    /// `options` are those of the table, `secret` the keys of its Secret (and of the storage's options): both are looked up
    /// for the same names, so that nothing says twice where a password belongs.
    pub fn parse(uri: &str, options: &BTreeMap<String, Value>, secret: &BTreeMap<String, String>) -> Result<Source> {
        let (address, mut settings) = address(uri)?;
        for (name, value) in secret {
            if matches!(name.as_str(), "user" | "password" | "sslmode" | "sslrootcert" | "sslcert" | "sslkey") {
                settings.insert(name.clone(), value.clone());
            }
        }
        let mut what = None;
        let mut partition = None;
        let mut connections = CONNECTIONS;
        for (name, value) in options {
            match (name.as_str(), value) {
                (_, Value::Null) => {}
                ("table" | "query", Value::String(text)) if text.trim().is_empty() => {
                    return Err(spec(name, "is empty"));
                }
                ("table", Value::String(text)) if what.is_none() => what = Some(What::Table(text.clone())),
                ("query", Value::String(text)) if what.is_none() => what = Some(What::Query(text.clone())),
                ("table" | "query", Value::String(_)) => {
                    return Err(spec("query", "table and query exclude each other"));
                }
                ("partition", value) => partition = Some(self::partition(value)?),
                ("connections", value) => {
                    connections = count(name, value, 1000)?;
                }
                ("user" | "sslmode" | "sslrootcert" | "sslcert" | "sslkey", Value::String(text)) => {
                    settings.insert(name.clone(), text.clone());
                }
                ("password", _) => {
                    return Err(spec(name, "does not belong here: keep it in the Secret of secretRef"));
                }
                _ => {
                    return Err(spec(
                        name,
                        format_args!("{value} is not an option of such a table; there are {KNOWN}"),
                    ));
                }
            }
        }
        let what = what.ok_or_else(|| spec("table", "name a table or write a query"))?;
        let (config, tls) = connect_options(&address, settings)?;
        let given = Given { uri: uri.to_owned(), options: options.clone(), secret: secret.clone() };
        Ok(Source { given, config, tls, what, partition, connections })
    }

    pub fn of(Given { uri, options, secret }: &Given) -> Result<Source> {
        Source::parse(uri, options, secret)
    }

    pub fn given(&self) -> &Given {
        &self.given
    }

    /// Alike for sources that can be read in one transaction.
    pub fn identity(&self) -> String {
        format!("{} as {}", self.database(), self.config.get_user().unwrap_or_default())
    }

    /// The database, without user and password: for messages and for counting connections to it.
    pub fn database(&self) -> String {
        let config = &self.config;
        let ports = config.get_ports();
        let hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(at, host)| {
                let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
                match host {
                    Host::Tcp(name) => format!("{name}:{port}"),
                    Host::Unix(path) => format!("{}:{port}", path.display()),
                }
            })
            .collect();
        let name = config.get_dbname().or(config.get_user()).unwrap_or_default();
        format!("postgres://{}/{name}", hosts.join(","))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("database", &self.database()).field("what", &self.what).finish_non_exhaustive()
    }
}

/// The URI without its parameters, and the parameters.
fn address(uri: &str) -> Result<(String, BTreeMap<String, String>)> {
    let rest = uri.strip_prefix("postgresql://").or_else(|| uri.strip_prefix("postgres://"));
    let Some(rest) = rest else {
        return Err(spec("uri", "a PostgreSQL database is named as postgres://user@host:5432/database"));
    };
    let (address, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    // libpq takes a plus sign as it is, and forms do not.
    let parameters = parameters.replace('+', "%2B");
    let settings = form_urlencoded::parse(parameters.as_bytes()).into_owned().collect();
    Ok((format!("postgres://{address}"), settings))
}

fn connect_options(address: &str, mut settings: BTreeMap<String, String>) -> Result<(Config, Tls)> {
    // The client's errors name the parameter, never its value.
    let unreadable = |error: &tokio_postgres::Error| {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        spec("uri", format_args!("{error}{cause}"))
    };
    let mut take = |name: &str| settings.remove(name);
    let (user, password) = (take("user"), take("password"));
    let (mode, roots) = (take("sslmode"), take("sslrootcert"));
    let (certificate, key) = (take("sslcert"), take("sslkey"));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&settings).finish().replace('+', "%20");
    let separator = if query.is_empty() { "" } else { "?" };
    let mut config: Config = format!("{address}{separator}{query}").parse().map_err(|error| unreadable(&error))?;
    if let Some(user) = user {
        config.user(user);
    }
    if let Some(password) = password {
        config.password(password);
    }
    if config.get_user().is_none() {
        return Err(spec(
            "uri",
            "names no user: write postgres://user@host/database, or user in the Secret of secretRef",
        ));
    }
    if config.get_hosts().is_empty() {
        return Err(spec("uri", "names no host"));
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name("floe");
    }
    config.keepalives_idle(KEEPALIVE_IDLE);
    let mode = mode.as_deref().unwrap_or("prefer");
    let tls = Tls::new(mode, roots.as_deref(), certificate.as_deref().zip(key.as_deref()))?;
    config.ssl_mode(match mode {
        "disable" => SslMode::Disable,
        "prefer" => SslMode::Prefer,
        _ => SslMode::Require,
    });
    Ok((config, tls))
}

fn partition(value: &Value) -> Result<Partition> {
    let Value::Object(fields) = value else {
        return Err(spec("partition", "write {column: id}, with bounds, by or count"));
    };
    let mut column = None;
    let mut by = None;
    let mut bounds = None;
    let mut parts = None;
    for (name, value) in fields {
        let field = format!("partition.{name}");
        match (name.as_str(), value) {
            ("column", Value::String(text)) => column = Some(text.clone()),
            ("by", Value::String(text)) if text == "range" => by = Some(By::Range),
            ("by", Value::String(text)) if text == "value" => by = Some(By::Value),
            ("by", _) => return Err(spec(&field, "is range or value")),
            ("count", value) => parts = Some(count(&field, value, 10_000)?),
            ("bounds", Value::Array(items)) if !items.is_empty() => {
                bounds = Some(items.iter().map(|item| bound(&field, item)).collect::<Result<Vec<_>>>()?);
            }
            ("bounds", _) => return Err(spec(&field, "is a list of values of the column")),
            _ => return Err(spec(&field, "is not known; there are column, bounds, by and count")),
        }
    }
    let column = column.ok_or_else(|| spec("partition.column", "is missing"))?;
    let by = match (by, bounds) {
        (Some(By::Value), Some(_)) => return Err(spec("partition.bounds", "is for ranges, not for by: value")),
        (_, Some(_)) if parts.is_some() => {
            return Err(spec("partition.count", "follows from bounds: leave one of them out"));
        }
        (_, Some(bounds)) => By::Bounds(bounds),
        (by, None) => by.unwrap_or(By::Range),
    };
    Ok(Partition { column, by, count: parts })
}

fn bound(field: &str, item: &Value) -> Result<String> {
    match item {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(spec(field, format_args!("{item} is neither text nor a number"))),
    }
}

fn count(field: &str, value: &Value, most: usize) -> Result<usize> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| spec(field, format_args!("{value} is not a number from 1 to {most}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(uri: &str, options: Value, secret: &[(&str, &str)]) -> Result<Source> {
        let secret = secret.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Source::parse(uri, &serde_json::from_value(options).unwrap(), &secret)
    }

    #[test]
    fn the_password_comes_from_the_secret_and_is_never_printed() {
        let source = parse(
            "postgres://ada:inuri@db.local:6432/shop?sslmode=disable&application_name=a%20b+c",
            json!({"table": "orders"}),
            &[("password", "hunter2"), ("aws_access_key_id", "x")],
        )
        .unwrap();
        assert_eq!(source.config.get_password(), Some(b"hunter2".as_slice()));
        assert_eq!(source.config.get_application_name(), Some("a b+c"));
        assert_eq!(source.database(), "postgres://db.local:6432/shop");
        let shown = format!("{source:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("inuri"), "{shown}");
        assert_eq!(source.connections, CONNECTIONS);
    }

    #[test]
    fn several_hosts_are_tried() {
        let source = parse("postgresql://ada@a:1,b:2/shop", json!({"query": "SELECT 1 AS x"}), &[]).unwrap();
        assert_eq!(source.database(), "postgres://a:1,b:2/shop");
        assert_eq!(source.config.get_ssl_mode(), SslMode::Prefer);
    }

    #[test]
    fn partitions_are_by_bounds_range_or_value() {
        let of = |partition: Value| {
            parse("postgres://a@h/d", json!({"table": "t", "partition": partition}), &[]).map(|source| source.partition)
        };
        assert_eq!(
            of(json!({"column": "id", "count": 4})).unwrap(),
            Some(Partition { column: "id".into(), by: By::Range, count: Some(4) })
        );
        assert_eq!(
            of(json!({"column": "id", "bounds": [10, "20"]})).unwrap(),
            Some(Partition { column: "id".into(), by: By::Bounds(vec!["10".into(), "20".into()]), count: None })
        );
        for (wrong, field) in [
            (json!({"count": 4}), "partition.column"),
            (json!({"column": "a", "by": "hash"}), "partition.by"),
            (json!({"column": "a", "count": 0}), "partition.count"),
            (json!({"column": "a", "bounds": []}), "partition.bounds"),
            (json!({"column": "a", "bounds": [1], "count": 2}), "partition.count"),
            (json!({"column": "a", "bounds": [1], "by": "value"}), "partition.bounds"),
            (json!({"column": "a", "size": 1}), "partition.size"),
        ] {
            let error = of(wrong).unwrap_err();
            assert!(error.message.starts_with(&format!("{field}:")), "{}", error.message);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = json!({"table": "t"});
        for (uri, options, secret, expected) in [
            ("mysql://h/d", good.clone(), vec![], "uri: a PostgreSQL database"),
            ("postgres://h/d", good.clone(), vec![], "uri: names no user"),
            ("postgres://a@/d", good.clone(), vec![], "uri: names no host"),
            ("postgres://a@h/d?port=x", good.clone(), vec![], "uri: invalid connection string"),
            ("postgres://a@h/d?nonsense=1", good.clone(), vec![], "uri: invalid connection string"),
            ("postgres://a@h/d", good, vec![("sslmode", "sure")], "sslmode: "),
            ("postgres://a@h/d", json!({}), vec![], "table: name a table"),
            ("postgres://a@h/d", json!({"table": "t", "query": "SELECT 1"}), vec![], "query: table and query"),
            ("postgres://a@h/d", json!({"table": "t", "password": "p"}), vec![], "password: does not belong"),
            ("postgres://a@h/d", json!({"table": "t", "connections": 0}), vec![], "connections: 0 is not"),
            ("postgres://a@h/d", json!({"table": "t", "tabel": 1}), vec![], "tabel: 1 is not an option"),
        ] {
            let error = parse(uri, options, &secret).unwrap_err();
            assert!(error.message.starts_with(expected), "{}", error.message);
        }
    }
}
