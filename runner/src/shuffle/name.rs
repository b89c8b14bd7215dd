//! Makes the names of task outputs from their identity. Names are never parsed. Those of two attempts never collide.

use floe_wire::chunk::OutputId;

/// The file's name in the directory of its run.
pub fn file_name(output: OutputId) -> String {
    format!("{output}.ipc")
}

/// The URL path at which a worker serves it.
pub fn url_path(run: &str, output: OutputId) -> String {
    format!("/shuffle/{run}/{}/{}/{}", output.task.stage.0, output.task.task, output.attempt)
}

/// Whether a run's name is a valid directory name.
pub fn names_directory(run: &str) -> bool {
    !run.is_empty() && !run.contains(['/', '\0']) && !run.starts_with('.')
}
