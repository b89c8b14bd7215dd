//! Where the files that a log names are.

/// The URI of a file that a log names by a path: URL-encoded, relative to the table's root or absolute.
pub fn resolve(root: &str, path: &str) -> String {
    let path = decode(path);
    if let Some(rest) = local(&path) {
        // As the root is written, so that one file has one name.
        return if root.starts_with("file:") { format!("{}{rest}", authority(root)) } else { rest.to_owned() };
    }
    if let Some(end) = scheme(&path) {
        // Hadoop's names for what is S3.
        return match &path[..end] {
            "s3a" | "s3n" => format!("s3{}", &path[end..]),
            _ => path,
        };
    }
    if path.starts_with('/') {
        return format!("{}{path}", authority(root));
    }
    format!("{root}/{path}")
}

/// The absolute path in a `file:` URI.
fn local(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("file:")?;
    let rest = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    rest.starts_with('/').then_some(rest)
}

/// Where the scheme of a URI ends, if it has one. A colon in the name of a file makes no scheme.
fn scheme(path: &str) -> Option<usize> {
    let end = path.find("://")?;
    let name = &path[..end];
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic());
    (starts && name.chars().all(|each| each.is_ascii_alphanumeric() || "+-.".contains(each))).then_some(end)
}

/// Scheme and host of a root: what stands before an absolute path.
fn authority(root: &str) -> &str {
    match root.find("://") {
        Some(end) => {
            let start = end + "://".len();
            root[start..].find('/').map_or(root, |slash| &root[..start + slash])
        }
        None if root.starts_with("file:") => "file:",
        None => "",
    }
}

/// Decodes `%41` and the like. What is no such code stays as it is.
pub fn decode(path: &str) -> String {
    if !path.contains('%') {
        return path.to_owned();
    }
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|pair| Some(hex(pair[0])? << 4 | hex(pair[1])?));
        match code {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| path.to_owned())
}

pub fn hex(digit: u8) -> Option<u8> {
    Some(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_and_resolved() {
        for (root, path, uri) in [
            ("s3://b/t", "part-0.parquet", "s3://b/t/part-0.parquet"),
            ("s3://b/t", "a=x%20y/p%25.parquet", "s3://b/t/a=x y/p%.parquet"),
            ("s3://b/t", "a=100%/p.parquet", "s3://b/t/a=100%/p.parquet"),
            ("s3://b/t", "t=10:20/p.parquet", "s3://b/t/t=10:20/p.parquet"),
            ("s3://b/t", "s3a://c/u/p.parquet", "s3://c/u/p.parquet"),
            ("s3://b/t", "gs://c/u/p%20q.parquet", "gs://c/u/p q.parquet"),
            ("s3://b/t", "/u/p.parquet", "s3://b/u/p.parquet"),
            ("/data/t", "/u/p.parquet", "/u/p.parquet"),
            ("/data/t", "file:/u/p.parquet", "/u/p.parquet"),
            ("/data/t", "file:///u/p.parquet", "/u/p.parquet"),
            ("file:///data/t", "file://localhost/u/p.parquet", "file:///u/p.parquet"),
            ("file:///data/t", "/u/p.parquet", "file:///u/p.parquet"),
            ("file:/data/t", "/u/p.parquet", "file:/u/p.parquet"),
        ] {
            assert_eq!(resolve(root, path), uri, "{path} in {root}");
        }
    }

    #[test]
    fn codes_that_are_no_text_stay() {
        assert_eq!(decode("%FF"), "%FF");
        assert_eq!(decode("%e2%82%AC%4"), "€%4");
    }
}
