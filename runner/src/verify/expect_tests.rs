//! What the table of known faults covers, and what it does not.

use super::*;

fn checked(plan: &str, outcome: Class, version: Option<&'static str>, detail: &str) -> Checked {
    Checked {
        plan: plan.into(),
        outcome,
        detail: Some(detail.into()),
        note: None,
        version,
        expected: None,
        stages: 2,
        tasks: 2,
        single_worker: Vec::new(),
        fell_back: None,
        polars_ms: 1.0,
        floe_ms: 1.0,
        rows: Some(1),
    }
}

const TABLE: &str = "
floors:
  random: {equal: 0.8, staged: 0.9, distributed: 0.5}
fallBacks:
  - what: zips of unequal length
    detailHas: [zip node]
versions:
  - what: words are told by another rule
    versions: [1.43.2]
    planHas: [str.to_titlecase]
    detailHas: [column `t`]
  - what: one plan
    plans: [abc]
";

#[test]
fn an_entry_covers_plans_that_meet_all_of_its_conditions() {
    let table = Expected::parse(TABLE).unwrap();
    let of = |mut checked: Checked, plan: &str| {
        table.excuse(&mut checked, plan);
        checked.expected
    };
    let (v1, v2) = (Some("1.43.2"), Some("2.1.0"));
    let differs = |version, detail: &str| checked("x.bin", Class::VersionDiffers, version, detail);
    let title = "SELECT [col(\"t\").str.to_titlecase()]";
    assert!(of(differs(v1, "column `t` (str), row 0"), title).is_some());
    assert_eq!(of(differs(v2, "column `t` (str), row 0"), title), None);
    assert_eq!(of(differs(v1, "column `u` (str), row 0"), title), None);
    assert_eq!(of(differs(v1, "column `t` (str), row 0"), "SELECT"), None);
    assert_eq!(of(checked("abc.bin", Class::VersionDiffers, v2, ""), "").as_deref(), Some("one plan"));
    assert!(of(checked("x", Class::FellBack, None, "ShapeError: zip node received"), "").is_some());
    // Tables do not cover each other's faults, nor results that differ from the engine's own Polars.
    assert_eq!(of(checked("x", Class::VersionDiffers, v1, "zip node"), ""), None);
    assert_eq!(of(checked("abc.bin", Class::Differs, v1, "zip node column `t`"), title), None);
}

#[test]
fn floors_are_found_by_name() {
    let table = Expected::parse(TABLE).unwrap();
    assert_eq!(table.floor("random").unwrap(), Floor { equal: 0.8, staged: 0.9, distributed: 0.5 });
    assert!(table.floor("corpus").unwrap_err().to_string().contains("there are: random"));
}

#[test]
fn an_entry_that_covers_everything_or_says_nothing_is_refused() {
    for (text, why) in [
        ("versions: [{what: all, versions: [2.1.0]}]", "covers every plan"),
        ("fallBacks: [{detailHas: [x]}]", "does not say what it is"),
        ("fallbacks: []", "unknown field"),
    ] {
        let error = format!("{:#}", Expected::parse(text).unwrap_err());
        assert!(error.contains(why), "{text}: {error}");
    }
}
