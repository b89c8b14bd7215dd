//! Filters on partition columns whose value is null for some files. Polars 0.55 keeps such files where the filter is null for
//! them (it reads the mask of files without its nulls) and then takes the filter for done. So null is made false in these
//! terms of the filter, and files are left out again.

use polars_core::prelude::*;
use polars_mem_engine::scan_predicate::functions::apply_scan_predicate_to_scan_ir;
use polars_plan::plans::{AExpr, AExprBuilder, IR, IRPlan, MintermIter};
use polars_plan::utils::aexpr_to_leaf_names_iter;
use polars_utils::arena::Node;

/// Mends the filters of all scans.
pub fn mend(plan: &mut IRPlan) -> PolarsResult<()> {
    let mut open = vec![plan.lp_top];
    while let Some(node) = open.pop() {
        open.extend(plan.lp_arena.get(node).inputs());
        of_scan(plan, node)?;
    }
    Ok(())
}

fn of_scan(plan: &mut IRPlan, node: Node) -> PolarsResult<()> {
    let IR::Scan { predicate: Some(predicate), hive_parts: Some(parts), predicate_file_skip_applied, .. } =
        plan.lp_arena.get(node)
    else {
        return Ok(());
    };
    if parts.df().columns().iter().all(|column| column.null_count() == 0) {
        return Ok(());
    }
    let (columns, before) = (parts.schema().clone(), *predicate_file_skip_applied);
    let arena = &mut plan.expr_arena;
    let mut changed = false;
    let terms: Vec<Node> = MintermIter::new(predicate.node(), arena).collect();
    let mut all: Option<AExprBuilder> = None;
    for term in terms {
        let of_files = aexpr_to_leaf_names_iter(term, arena).all(|name| columns.contains(name));
        let is_mended = matches!(arena.get(term), AExpr::Ternary { .. });
        let mut term = AExprBuilder::new_from_node(term);
        if of_files && !is_mended {
            let keep = AExprBuilder::lit_scalar(Scalar::from(true), arena);
            let leave_out = AExprBuilder::lit_scalar(Scalar::from(false), arena);
            term = term.ternary(keep, leave_out, arena);
            changed = true;
        }
        all = Some(match all {
            Some(all) => all.and(term, arena),
            None => term,
        });
    }
    let Some(all) = all.filter(|_| changed) else { return Ok(()) };
    if let IR::Scan { predicate, predicate_file_skip_applied, .. } = plan.lp_arena.get_mut(node) {
        *predicate = Some(all.expr_ir("filter"));
        *predicate_file_skip_applied = None;
    }
    apply_scan_predicate_to_scan_ir(node, &mut plan.lp_arena, &mut plan.expr_arena)?;
    if let (Some(before), IR::Scan { predicate_file_skip_applied: Some(now), .. }) =
        (before, plan.lp_arena.get_mut(node))
    {
        now.original_len = before.original_len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;
    use polars_io::HiveOptions;
    use polars_plan::plans::ArenaLpIter as _;
    use polars_utils::pl_path::PlRefPath;

    use super::IR;

    #[test]
    fn a_filter_that_is_null_for_a_partition_leaves_it_out() {
        let folder = tempfile::tempdir().unwrap();
        for (k, a) in [("0", 1i64), ("1", 2), ("__HIVE_DEFAULT_PARTITION__", 3)] {
            let path = folder.path().join(format!("k={k}"));
            std::fs::create_dir(&path).unwrap();
            let file = std::fs::File::create(path.join("0.parquet")).unwrap();
            ParquetWriter::new(file).finish(&mut df!("a" => [a]).unwrap()).unwrap();
        }
        let path = PlRefPath::new(folder.path().to_str().unwrap());
        for (filter, files) in [
            (col("k").gt_eq(lit(0)), 2),
            (col("k").neq(lit(1)), 1),
            (col("k").gt_eq(lit(0)).and(col("a").gt(lit(0))), 2),
            (col("k").is_null(), 1),
            (col("k").eq_missing(lit(1)).not(), 2),
            (col("k").gt_eq(lit(0)).or(col("a").eq(lit(3))), 3),
        ] {
            let args = ScanArgsParquet { hive_options: HiveOptions::new_enabled(), ..Default::default() };
            let scan = LazyFrame::scan_parquet(path.clone(), args).unwrap().filter(filter.clone());
            let plan = crate::optimize(scan.logical_plan).unwrap();
            let left = plan.lp_arena.iter(plan.lp_top).find_map(|(_, ir)| match ir {
                IR::Scan { sources, .. } => Some(sources.len()),
                _ => None,
            });
            assert_eq!(left, Some(files), "{filter}");
        }
    }
}
