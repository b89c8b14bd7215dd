//! Refuses what makes Polars recurse until the stack overflows, which kills the whole process: `sqrt`, `cbrt` and
//! `pct_change` of structs. The message is that of the Polars versions that check for it.

use polars_core::prelude::*;
use polars_plan::plans::{AExpr, IRFunctionExpr as Function, IRPlan, IRPowFunction as Pow};

use floe_wire::error::{QueryError, Result};

pub fn check(plan: &IRPlan) -> Result<()> {
    let of_struct = |_: &AExpr, inputs: &[DataType], _: &DataType| inputs.first().is_some_and(DataType::is_struct);
    let Some(found) = super::find(plan, suspect, of_struct) else { return Ok(()) };
    let AExpr::Function { function, .. } = plan.expr_arena.get(found.node) else { return Ok(()) };
    let message = format!("`{function}` operation not supported for dtype `{}`", found.inputs[0]);
    Err(QueryError::user("InvalidOperationError", message))
}

fn suspect(e: &AExpr) -> bool {
    matches!(e, AExpr::Function { function: Function::Pow(Pow::Sqrt | Pow::Cbrt) | Function::PctChange, .. })
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    #[test]
    fn roots_of_structs_are_refused_before_they_run() {
        let frame = df!["x" => [1.0, 4.0]].unwrap().lazy();
        let structs = frame.clone().select([as_struct(vec![col("x")]).alias("s")]);
        for (expr, name) in
            [(col("s").sqrt(), "sqrt"), (col("s").cbrt() + lit(1), "cbrt"), (col("s").pct_change(lit(1)), "pct_change")]
        {
            let error = crate::optimize(structs.clone().select([expr]).logical_plan).unwrap_err();
            assert_eq!(error.class, "InvalidOperationError");
            assert_eq!(error.message, format!("`{name}` operation not supported for dtype `struct[1]`"));
        }
        assert!(crate::optimize(frame.select([col("x").sqrt()]).logical_plan).is_ok());
    }
}
