//! The CRD in crds/ is the one that the types make.

use std::path::PathBuf;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crds/floe.dev_distributedqueries.yaml")
}

#[test]
fn the_crd_file_is_what_the_types_make() {
    let made = floe_api::schema::crd_yaml();
    if std::env::var_os("FLOE_WRITE_GENERATED").is_some() {
        std::fs::create_dir_all(path().parent().unwrap()).unwrap();
        std::fs::write(path(), &made).unwrap();
    }
    let kept = std::fs::read_to_string(path()).unwrap_or_default();
    assert!(
        kept == made,
        "crds/ is not what api/ makes: run `make generate` (or floe crd > crds/floe.dev_distributedqueries.yaml)"
    );
}
