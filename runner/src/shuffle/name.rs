//! Names of task outputs, made from their identity and never taken apart again: two attempts never meet, and a reader knows
//! whose output it asks for.

use floe_wire::chunk::OutputId;

/// In the directory of its run.
pub fn file_name(output: OutputId) -> String {
    format!("{output}.ipc")
}

/// Where a worker serves it.
pub fn url_path(run: &str, output: OutputId) -> String {
    format!("/shuffle/{run}/{}/{}/{}", output.task.stage.0, output.task.task, output.attempt)
}

/// Whether a run can name a directory.
pub fn names_directory(run: &str) -> bool {
    !run.is_empty() && !run.contains(['/', '\0']) && !run.starts_with('.')
}
