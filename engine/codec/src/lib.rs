//! Plans to bytes and back. A crate of its own because the serde code of Polars' plan types is large: here it is
//! compiled once, not with every change of the engine. Nothing generic may be public here.

use polars_error::PolarsResult;
use polars_plan::dsl::DslPlan;
use polars_plan::plans::IRPlan;

pub fn encode_ir(plan: &IRPlan) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec_named(plan).map_err(|e| e.to_string())
}

pub fn decode_ir(bytes: &[u8]) -> Result<IRPlan, String> {
    rmp_serde::from_slice(bytes).map_err(|e| e.to_string())
}

/// As Polars' own `LazyFrame.serialize()` writes it, header and all.
pub fn encode_dsl(plan: &DslPlan) -> PolarsResult<Vec<u8>> {
    let mut out = Vec::new();
    plan.serialize_versioned(&mut out, Default::default())?;
    Ok(out)
}

/// Reads what `encode_dsl` and Python write; the schema hash in the header is checked unless Polars is told not to.
pub fn decode_dsl(bytes: &[u8]) -> PolarsResult<DslPlan> {
    DslPlan::deserialize_versioned(bytes)
}
