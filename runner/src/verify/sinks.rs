//! Plans with sinks of their own: each run writes to a directory of its own, and what it wrote is read back as frames.
//! Text files are compared line by line, whatever their dialect; partitioned sinks by the directory of each row,
//! because how many files a partition has is not promised.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use floe_plan::inputs::map_inputs;
use polars::prelude::{
    Column, DataFrame, IpcReader, ParquetReader, PlRefPath, PolarsResult, SerReader as _, UnionArgs, concat_lf_diagonal,
};
use polars::prelude::{IntoColumn as _, IntoLazy as _, NamedFrom as _, Series};
use polars_plan::dsl::{DslPlan, FileWriteFormat, SinkTarget, SinkType};

use floe_wire::error::QueryError;

/// A plan whose sinks write below a directory that is removed with this.
pub struct Redirected {
    pub plan: DslPlan,
    sinks: Vec<Sink>,
    _dir: tempfile::TempDir,
}

struct Sink {
    at: PathBuf,
    text: bool,
    /// Every file begins with a line of column names.
    header: bool,
    parquet: bool,
    partitioned: bool,
}

/// None for plans without sinks to files.
pub fn redirect(plan: &DslPlan) -> Option<Result<Redirected, QueryError>> {
    if !has_sinks(plan) {
        return None;
    }
    let dir = match tempfile::tempdir() {
        Ok(dir) => dir,
        Err(e) => return Some(Err(QueryError::io(format!("no directory for the sinks of a plan: {e}")))),
    };
    let mut sinks = Vec::new();
    let plan = rec(plan.clone(), dir.path(), &mut sinks);
    Some(Ok(Redirected { plan, sinks, _dir: dir }))
}

/// Whether a plan writes files.
pub fn has_sinks(plan: &DslPlan) -> bool {
    match plan {
        DslPlan::Sink { payload: SinkType::File(_) | SinkType::Partitioned(_), .. } => true,
        DslPlan::SinkMultiple { inputs } => inputs.iter().any(has_sinks),
        DslPlan::IR { dsl, .. } => has_sinks(dsl),
        _ => false,
    }
}

fn rec(plan: DslPlan, dir: &Path, sinks: &mut Vec<Sink>) -> DslPlan {
    match plan {
        DslPlan::Sink { input, payload: SinkType::File(mut options) } => {
            let name = match &options.target {
                SinkTarget::Path(path) => path.file_name().map(|n| n.to_string_lossy().into_owned()),
                SinkTarget::Dyn(_) => None,
            };
            let at = dir.join(sinks.len().to_string()).join(name.unwrap_or_else(|| "file".into()));
            if let Some(parent) = at.parent() {
                // If this fails, the sink reports it.
                let _ = std::fs::create_dir_all(parent);
            }
            options.target = SinkTarget::Path(reference(&at));
            sinks.push(Sink::new(at, &options.file_format, false));
            DslPlan::Sink { input, payload: SinkType::File(options) }
        }
        DslPlan::Sink { input, payload: SinkType::Partitioned(mut options) } => {
            let at = dir.join(sinks.len().to_string());
            options.base_path = reference(&at);
            options.unified_sink_args.mkdir = true;
            sinks.push(Sink::new(at, &options.file_format, true));
            DslPlan::Sink { input, payload: SinkType::Partitioned(options) }
        }
        plan @ (DslPlan::SinkMultiple { .. } | DslPlan::IR { .. }) => map_inputs(plan, &mut |p| rec(p, dir, sinks)),
        other => other,
    }
}

fn reference(path: &Path) -> PlRefPath {
    PlRefPath::new(path.to_string_lossy().as_ref())
}

impl Redirected {
    /// What the sinks hold, a frame for each.
    pub fn read(&self) -> Result<Vec<DataFrame>, QueryError> {
        self.sinks.iter().map(|sink| sink.read().map_err(floe_polars::polars_error)).collect()
    }
}

impl Sink {
    fn new(at: PathBuf, format: &FileWriteFormat, partitioned: bool) -> Sink {
        let text = matches!(format, FileWriteFormat::Csv(_) | FileWriteFormat::NDJson(_));
        let header = matches!(format, FileWriteFormat::Csv(options) if options.include_header);
        Sink { at, text, header, parquet: matches!(format, FileWriteFormat::Parquet(_)), partitioned }
    }

    fn read(&self) -> PolarsResult<DataFrame> {
        if !self.partitioned {
            return self.file(&self.at);
        }
        let mut files = Vec::new();
        walk(&self.at, &mut files)?;
        files.sort();
        let mut frames = Vec::new();
        let mut headed = HashSet::new();
        for file in files {
            let mut frame = self.file(&file)?;
            // Neither how many files a directory has is promised, nor how often its column names occur.
            if self.header && !headed.insert(file.parent().map(Path::to_owned)) {
                frame = frame.slice(1, frame.height());
            }
            let inside = file.parent().and_then(|p| p.strip_prefix(&self.at).ok()).unwrap_or(Path::new(""));
            let names = vec![inside.to_string_lossy().into_owned(); frame.height()];
            frame.with_column(Column::new("__directory".into(), names))?;
            frames.push(frame.lazy());
        }
        if frames.is_empty() {
            return Ok(DataFrame::empty());
        }
        concat_lf_diagonal(frames, UnionArgs::default())?.collect()
    }

    fn file(&self, path: &Path) -> PolarsResult<DataFrame> {
        let mut file = BufReader::new(File::open(path)?);
        if self.text {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<String> = text.lines().map(positive_zero).collect();
            return DataFrame::new(lines.len(), vec![Series::new("line".into(), lines).into_column()]);
        }
        if self.parquet {
            ParquetReader::new(file.into_inner()).finish()
        } else {
            IpcReader::new(file.into_inner()).finish()
        }
    }
}

/// Replaces `-0.0` in a line by `0.0`; the two are equal everywhere else, too.
fn positive_zero(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("-0.0") {
        let goes_on = rest[at + 4..].starts_with(|c: char| c.is_ascii_digit() || c == 'e');
        let inside = rest[..at].ends_with(|c: char| c.is_alphanumeric());
        out.push_str(&rest[..at]);
        out.push_str(if goes_on || inside { "-0.0" } else { "0.0" });
        rest = &rest[at + 4..];
    }
    out.push_str(rest);
    out
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::positive_zero;

    #[test]
    fn zeroes_have_no_sign_in_text() {
        assert_eq!(positive_zero("-0.0,1,-0.05,{\"a\":-0.0}"), "0.0,1,-0.05,{\"a\":0.0}");
        assert_eq!(positive_zero("a-0.0"), "a-0.0");
    }
}
