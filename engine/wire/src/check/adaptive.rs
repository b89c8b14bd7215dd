//! Checks the adaptive form of a stage: it reads only stages that are done by then, leaves out only a stage that no
//! other reads, and gives the same rows.

use super::{AdaptiveFault, Finding, same_names};
use crate::facts::BroadcastBound;
use crate::graph::{Stage, StageGraph, StageId};

pub(super) fn check(graph: &StageGraph, stage: &Stage, findings: &mut Vec<Finding>) {
    let Some(form) = &stage.adaptive else { return };
    let mut faults = Vec::new();
    let reads = |of: &Stage, id: StageId| of.forms().any(|form| form.inputs().any(|input| input == id));
    let planned = |id: StageId| stage.forms().take(1).any(|form| form.inputs().any(|input| input == id));
    let left_out = form.replaces;
    if !planned(left_out) {
        faults.push(AdaptiveFault::LeavesOutUnread(left_out));
    } else {
        let others = graph.stages.iter().filter(|other| other.id != stage.id && reads(other, left_out));
        faults.extend(others.map(|other| AdaptiveFault::LeavesOutShared { left_out, reader: other.id }));
    }
    if stage.forms().skip(1).any(|form| form.inputs().any(|input| input == left_out)) {
        faults.push(AdaptiveFault::ReadsLeftOut(left_out));
    }
    if form.small.is_empty() {
        faults.push(AdaptiveFault::MeasuresNothing);
    }
    for measured in &form.small {
        if !planned(*measured) {
            faults.push(AdaptiveFault::MeasuresUnread(*measured));
        } else if *measured >= left_out {
            faults.push(AdaptiveFault::MeasuredTooLate { measured: *measured, left_out });
        }
    }
    if form.bytes == u64::MAX {
        faults.push(AdaptiveFault::NoLimit);
    }
    if !same_names(&form.facts.columns, &stage.facts.columns) {
        let (planned, adaptive) = (stage.facts.columns.clone(), form.facts.columns.clone());
        faults.push(AdaptiveFault::OtherColumns { planned, adaptive });
    }
    for placeholder in &form.facts.placeholders {
        if let Some(BroadcastBound::Measured { limit_bytes }) = placeholder.bound
            && limit_bytes != form.bytes
        {
            faults.push(AdaptiveFault::OtherLimit { bound_bytes: limit_bytes, limit_bytes: form.bytes });
        }
    }
    findings.extend(faults.into_iter().map(|fault| Finding::AdaptiveForm { stage: stage.id, fault }));
}
