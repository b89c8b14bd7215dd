//! Reads the region and keys from AWS profile files, for use where neither options nor the environment have them.

use std::{collections::HashMap, path::PathBuf};

/// `aws_access_key_id`, `aws_secret_access_key`, `aws_session_token`, `region` of the chosen profile.
pub(super) fn read() -> HashMap<String, String> {
    let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    let file = |variable: &str, name: &str| {
        std::env::var_os(variable).map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".aws").join(name)))
    };
    let mut found = HashMap::new();
    for (variable, name, section) in [
        ("AWS_CONFIG_FILE", "config", format!("profile {profile}")),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", profile.clone()),
    ] {
        if let Some(text) = file(variable, name).and_then(|path| std::fs::read_to_string(path).ok()) {
            parse(&text, &[&section, &profile], &mut found);
        }
    }
    found
}

fn parse(text: &str, sections: &[&str], found: &mut HashMap<String, String>) {
    let mut inside = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = sections.contains(&section.trim());
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            found.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_profile_counts() {
        let mut found = Default::default();
        super::parse(
            "[default]\nregion = a\n# x = y\n[profile p]\nregion=b\n[other]\nregion=c\n",
            &["profile p", "p"],
            &mut found,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found["region"], "b");
    }
}
