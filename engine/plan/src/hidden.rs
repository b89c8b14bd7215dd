//! Refuses columns whose names are reserved: the engine adds columns of its own to users' rows, takes them away again, and
//! checks that none is left, all by the beginning of their names.

use polars_plan::plans::{ArenaLpIter, IRPlan};

use floe_wire::error::{QueryError, Result};
use floe_wire::facts::HIDDEN_PREFIX;

/// Columns that the plans of this crate add: numbers of rows (of deletes, and of joins with conditions), and the struct
/// that a function over a frame is called with.
const OWN: [&str; 4] = ["row", "left_row", "right_row", "frame"];
/// And keys of equality deletes, with a number each.
const OWN_NUMBERED: &str = "key_";

pub fn check(plan: &IRPlan) -> Result<()> {
    for (_, node) in plan.lp_arena.iter(plan.lp_top) {
        if let Some(name) = node.schema(&plan.lp_arena).iter_names().find(|name| is_reserved(name)) {
            return Err(QueryError::user(
                "ReservedColumn",
                format!(
                    "the column \"{name}\": names that begin with \"{HIDDEN_PREFIX}\" are those of the engine's own columns. \
                     Rename it, where the table is written or with `rename`"
                ),
            ));
        }
    }
    Ok(())
}

fn is_reserved(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(HIDDEN_PREFIX) else { return false };
    let numbered = rest.strip_prefix(OWN_NUMBERED).is_some_and(|number| number.parse::<u32>().is_ok());
    !numbered && !OWN.contains(&rest)
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    use super::is_reserved;

    #[test]
    fn columns_of_reserved_names_are_refused_wherever_they_are() {
        let frame = df!["x" => [1, 2], "g" => [1, 1]].unwrap().lazy();
        let refused = |plan: LazyFrame| {
            let error = crate::optimize(plan.logical_plan).unwrap_err();
            assert_eq!(error.class, "ReservedColumn");
            assert!(error.message.contains("\"__floe_k1\"") && error.message.contains("Rename it"), "{error}");
        };
        let named = frame.clone().rename(["g"], ["__floe_k1"], true);
        refused(named.clone());
        // A name that is gone from the result, and one of an aggregate.
        refused(named.group_by([col("__floe_k1")]).agg([col("x").sum()]).select([col("x")]));
        refused(frame.clone().group_by([col("g")]).agg([col("x").sum().alias("__floe_k1")]));
        assert!(crate::optimize(frame.rename(["g"], ["_floe_k1"], true).logical_plan).is_ok());
    }

    #[test]
    fn the_engines_own_plans_use_a_few_of_them() {
        for own in
            ["__floe_row", "__floe_left_row", "__floe_right_row", "__floe_frame", "__floe_key_12", "row", "_floe_x"]
        {
            assert!(!is_reserved(own), "{own}");
        }
        for reserved in ["__floe_", "__floe_key_", "__floe_key_x", "__floe_rows", "__floe_ord3"] {
            assert!(is_reserved(reserved), "{reserved}");
        }
    }
}
