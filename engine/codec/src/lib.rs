//! Serializes plans. A separate crate because the serde code of Polars' plan types is large: it is compiled once, not
//! with every change of the engine. Nothing generic may be public here.

use polars_error::PolarsResult;
use polars_plan::dsl::DslPlan;
use polars_plan::plans::IRPlan;

pub fn encode_ir(plan: &IRPlan) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec_named(plan).map_err(|e| e.to_string())
}

pub fn decode_ir(bytes: &[u8]) -> Result<IRPlan, String> {
    rmp_serde::from_slice(bytes).map_err(|e| e.to_string())
}

/// Encodes like Polars' own `LazyFrame.serialize()`, including the header.
pub fn encode_dsl(plan: &DslPlan) -> PolarsResult<Vec<u8>> {
    let mut out = Vec::new();
    plan.serialize_versioned(&mut out, Default::default())?;
    Ok(out)
}

/// Decodes what `encode_dsl` and Python write. Checks the schema hash in the header, unless Polars is configured not
/// to.
pub fn decode_dsl(bytes: &[u8]) -> PolarsResult<DslPlan> {
    DslPlan::deserialize_versioned(bytes)
}
