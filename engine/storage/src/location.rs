//! Parses URIs: the store, and the path in it.

use std::path::{Path, PathBuf};

use floe_wire::error::{QueryError, Result};

/// A parsed URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Location {
    /// Absolute, with `~` resolved.
    Local(PathBuf),
    /// `root` is the scheme and the bucket or container (`s3://bucket`), `path` the object's name without slashes at
    /// its ends. Nothing is percent-decoded, as in Polars.
    Object { root: String, path: String },
    /// Read-only.
    Http(String),
}

const OBJECT_SCHEMES: [&str; 9] = ["s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl"];

impl Location {
    pub fn parse(uri: &str) -> Result<Location> {
        if uri.is_empty() {
            return Err(QueryError::user("BadUri", "the URI is empty"));
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Self::local(uri.strip_prefix("file:").unwrap_or(uri));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => {
                // `file://host/path` can only mean this machine.
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(QueryError::user("BadUri", format!("{uri}: write file:///absolute/path")));
                }
                Self::local(path)
            }
            "http" | "https" => Ok(Location::Http(uri.to_owned())),
            s if OBJECT_SCHEMES.contains(&s) => {
                let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(QueryError::user("BadUri", format!("{uri}: names no bucket")));
                }
                Ok(Location::Object { root: format!("{s}://{bucket}"), path: path.trim_matches('/').to_owned() })
            }
            _ => Err(QueryError::user(
                "BadUri",
                format!(
                    "{}: '{scheme}' is not supported; use a local path, file://, s3://, gs://, az://, abfss:// or \
                     http(s)://",
                    display_uri(uri)
                ),
            )),
        }
    }

    fn local(path: &str) -> Result<Location> {
        let path = match path.strip_prefix("~/").zip(std::env::home_dir()) {
            Some((rest, home)) => home.join(rest),
            None => PathBuf::from(path),
        };
        let absolute = std::path::absolute(&path).map_err(|error| super::path_error(&path, &error))?;
        Ok(Location::Local(absolute))
    }

    /// A file or directory below this location.
    pub fn join(&self, relative: &str) -> Location {
        match self {
            Location::Local(path) if relative.is_empty() => Location::Local(path.clone()),
            Location::Local(path) => Location::Local(path.join(relative)),
            Location::Object { root, path } => Location::Object { root: root.clone(), path: join_keys(path, relative) },
            Location::Http(url) => Location::Http(format!("{}/{relative}", url.trim_end_matches('/'))),
        }
    }

    /// The parent directory, and this location's name in it. `None` for a root.
    pub fn split(&self) -> Option<(Location, String)> {
        match self {
            Location::Local(path) => {
                let name = path.file_name()?.to_str()?.to_owned();
                Some((Location::Local(path.parent()?.to_owned()), name))
            }
            Location::Object { path, .. } if path.is_empty() => None,
            Location::Object { root, path } => {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                Some((Location::Object { root: root.clone(), path: parent.to_owned() }, name.to_owned()))
            }
            Location::Http(_) => None,
        }
    }

    /// The URI as a user would write it.
    pub fn uri(&self) -> String {
        match self {
            Location::Local(path) => path.display().to_string(),
            Location::Object { root, path } if path.is_empty() => root.clone(),
            Location::Object { root, path } => format!("{root}/{path}"),
            Location::Http(url) => display_uri(url),
        }
    }

    pub fn local_path(&self) -> Option<&Path> {
        match self {
            Location::Local(path) => Some(path),
            _ => None,
        }
    }
}

pub(super) fn join_keys(left: &str, right: &str) -> String {
    match (left.is_empty(), right.is_empty()) {
        (true, _) => right.to_owned(),
        (_, true) => left.to_owned(),
        _ => format!("{left}/{right}"),
    }
}

/// A URI without possible secrets: the query of a presigned URL, and user and password.
pub fn display_uri(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return uri.to_owned();
    }
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) => (rest, "?…"),
        None => (rest, ""),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}/{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_taken_apart() {
        let object = |root: &str, path: &str| Location::Object { root: root.into(), path: path.into() };
        for (uri, expected) in [
            ("/a/b", Location::Local("/a/b".into())),
            ("file:///a/b", Location::Local("/a/b".into())),
            ("file:/a/b", Location::Local("/a/b".into())),
            ("file://localhost/a", Location::Local("/a".into())),
            ("s3://bucket/a/b.parquet", object("s3://bucket", "a/b.parquet")),
            ("S3://bucket/a/", object("s3://bucket", "a")),
            ("s3://bucket", object("s3://bucket", "")),
            ("abfss://c@acc.dfs.core.windows.net/x/y", object("abfss://c@acc.dfs.core.windows.net", "x/y")),
            ("gs://b/k=a%20b/f", object("gs://b", "k=a%20b/f")),
        ] {
            assert_eq!(Location::parse(uri).unwrap(), expected, "{uri}");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(Location::parse("out/x").unwrap(), Location::Local(here.join("out/x")));
        for bad in ["", "ftp://x/y", "s3://", "s3:///x", "file://host/x"] {
            let error = Location::parse(bad).unwrap_err();
            assert_eq!(error.category, floe_wire::error::Category::User, "{bad}");
            assert_eq!(error.class, "BadUri", "{bad}");
        }
    }

    #[test]
    fn secrets_in_urls_are_not_shown() {
        assert_eq!(display_uri("https://u:p@h/x?X-Amz-Signature=abc"), "https://h/x?…");
        assert_eq!(display_uri("s3://b/x?y"), "s3://b/x?y");
    }

    #[test]
    fn parents() {
        let location = Location::parse("s3://b/a/c").unwrap();
        assert_eq!(location.split().unwrap().0.uri(), "s3://b/a");
        assert_eq!(location.join("d/e").uri(), "s3://b/a/c/d/e");
        assert!(Location::parse("s3://b").unwrap().split().is_none());
    }
}
