//! Collects Polars' own counts of its nodes while a plan runs: rows produced, bytes read from files, time.

use std::collections::BTreeMap;

use polars_stream::StreamingQuery;

use floe_wire::task::NodeMetrics;

/// Call the result when the query has run: it returns the counts of the nodes, those of one kind together; none if the
/// engine does not count (`POLARS_TRACK_METRICS`).
pub fn watch(query: &StreamingQuery) -> impl FnOnce() -> Vec<NodeMetrics> + use<> {
    let metrics = query.metrics.clone();
    let names: Vec<_> = query.graph.nodes.iter().map(|(key, node)| (key, node.compute.name().to_string())).collect();
    move || {
        let Some(metrics) = metrics else { return Vec::new() };
        let metrics = metrics.lock();
        let mut nodes: BTreeMap<String, NodeMetrics> = BTreeMap::new();
        for (key, name) in names {
            let Some(counted) = metrics.get(key) else { continue };
            let node =
                nodes.entry(name).or_insert_with_key(|name| NodeMetrics { node: name.clone(), ..Default::default() });
            node.rows += counted.rows_sent;
            node.bytes += counted.io_total_bytes_received;
            node.active_us += (counted.total_poll_time_ns + counted.total_state_update_time_ns) / 1000;
        }
        nodes.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    use super::*;

    #[test]
    fn nodes_are_counted_by_their_kind() {
        let frame = df!["x" => (0..1000i64).collect::<Vec<_>>()].unwrap().lazy();
        let mut plan = frame.filter(col("x").lt(lit(10))).to_alp_optimized().unwrap();
        plan.ensure_root_node_is_sink();
        let mut query = StreamingQuery::build(plan.lp_top, &mut plan.lp_arena, &mut plan.expr_arena).unwrap();
        polars_async::executor::track_task_metrics(true);
        query.metrics = Some(Default::default());
        let counted = watch(&query);
        query.execute().unwrap();
        let nodes = counted();
        assert!(nodes.iter().any(|node| node.rows == 1000), "{nodes:?}");
        assert!(nodes.iter().any(|node| node.rows == 10), "{nodes:?}");
    }
}
