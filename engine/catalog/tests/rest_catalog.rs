//! The client against a real catalog, whose address is in FLOE_ICEBERG_REST: tests/stores/test_rest_catalog.py starts
//! Apache's own and runs this.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use floe_api::Secret;
use floe_catalog::{Catalog, CatalogOptions, Create, Outcome};
use serde_json::{Value, json};

fn names(levels: &[&str]) -> Vec<String> {
    levels.iter().map(|level| (*level).to_owned()).collect()
}

fn done(outcome: Outcome) -> floe_catalog::Loaded {
    match outcome {
        Outcome::Done(loaded) => *loaded,
        other => panic!("{other:?}"),
    }
}

fn create() -> Create {
    Create {
        schema: json!({"type": "struct", "schema-id": 0, "fields": [
            {"id": 1, "name": "id", "required": true, "type": "long"},
            {"id": 2, "name": "day", "required": false, "type": "date"}]}),
        partition_spec: Some(json!({"spec-id": 0, "fields": [
            {"source-id": 2, "field-id": 1000, "name": "day", "transform": "identity"}]})),
        properties: BTreeMap::from([("owner".to_owned(), "me".to_owned())]),
        ..Create::default()
    }
}

#[test]
fn tables_of_a_real_catalog() {
    let Ok(uri) = std::env::var("FLOE_ICEBERG_REST") else {
        eprintln!("skipped: FLOE_ICEBERG_REST is not set");
        return;
    };
    // Its tokens are asked for and shown, though it lets everybody in.
    let properties = BTreeMap::from([("credential".to_owned(), Secret::from("me:secret"))]);
    let catalog = Catalog::open(&CatalogOptions { name: "lake".into(), uri, warehouse: None, properties }).unwrap();

    let (outer, inner) = (names(&["outer"]), names(&["outer", "in ner"]));
    catalog.create_namespace(&outer).unwrap();
    catalog.create_namespace(&inner).unwrap();
    catalog.create_namespace(&inner).unwrap();
    assert!(catalog.namespaces(&[]).unwrap().contains(&outer));
    assert_eq!(catalog.namespaces(&outer).unwrap(), std::slice::from_ref(&inner));
    assert!(catalog.namespaces(&names(&["outr"])).unwrap_err().message.contains("did you mean outer?"));

    assert!(!catalog.exists(&inner, "orders").unwrap());
    let made = done(catalog.create(&inner, "orders", &create()).unwrap());
    assert!(made.metadata_location.is_some());
    assert!(matches!(catalog.create(&inner, "orders", &create()).unwrap(), Outcome::Conflict(_)));
    assert!(catalog.exists(&inner, "orders").unwrap());
    assert_eq!(catalog.tables(&inner).unwrap(), ["orders"]);
    let error = catalog.load(&inner, "order").unwrap_err();
    assert!(
        error.message.ends_with("there is no table outer.in ner.order; did you mean outer.in ner.orders?"),
        "{error}"
    );

    let loaded = catalog.load(&inner, "orders").unwrap();
    let metadata = loaded.metadata_value().unwrap();
    assert_eq!(metadata["properties"]["owner"], "me");
    let requires = |uuid: &Value| [json!({"type": "assert-table-uuid", "uuid": uuid})];
    let changes = [json!({"action": "set-properties", "updates": {"owner": "you"}})];
    let changed = done(catalog.commit(&inner, "orders", &requires(&metadata["table-uuid"]), &changes).unwrap());
    assert_eq!(changed.metadata_value().unwrap()["properties"]["owner"], "you");
    assert_ne!(changed.metadata_location, loaded.metadata_location);
    let wrong = json!("00000000-0000-4000-8000-000000000000");
    let refused = catalog.commit(&inner, "orders", &requires(&wrong), &changes).unwrap();
    assert!(matches!(&refused, Outcome::Conflict(why) if why.contains("CommitFailedException")), "{refused:?}");

    // A staged table is there only once its first commit is made.
    let staged = done(catalog.create(&outer, "staged", &Create { stage: true, ..create() }).unwrap());
    assert!(!catalog.exists(&outer, "staged").unwrap());
    let metadata = staged.metadata_value().unwrap();
    let updates = [
        json!({"action": "assign-uuid", "uuid": metadata["table-uuid"]}),
        json!({"action": "upgrade-format-version", "format-version": 2}),
        json!({"action": "add-schema", "schema": metadata["schemas"][0], "last-column-id": 2}),
        json!({"action": "set-current-schema", "schema-id": -1}),
        json!({"action": "add-spec", "spec": metadata["partition-specs"][0]}),
        json!({"action": "set-default-spec", "spec-id": -1}),
        json!({"action": "add-sort-order", "sort-order": metadata["sort-orders"][0]}),
        json!({"action": "set-default-sort-order", "sort-order-id": -1}),
        json!({"action": "set-location", "location": staged.location}),
    ];
    let first = [json!({"type": "assert-create"})];
    done(catalog.commit(&outer, "staged", &first, &updates).unwrap());
    assert!(catalog.exists(&outer, "staged").unwrap());
    assert!(matches!(catalog.commit(&outer, "staged", &first, &updates).unwrap(), Outcome::Conflict(_)));
    assert!(catalog.tables(&names(&["nowhere"])).unwrap_err().message.contains("there is no namespace nowhere"));
}
