//! Writes the termination message, which Kubernetes keeps in the pod's status.

use floe_api::report::Event;

/// Kubernetes keeps this many bytes of a termination message.
const TERMINATION_BYTES: usize = 4096;

/// On a cluster, writes the outcome as the termination message.
pub fn leave_message(event: &Event) {
    let Some(path) = std::env::var_os("FLOE_TERMINATION_LOG") else { return };
    let mut short = event.clone();
    if let Event::Done { outcome } = &mut short {
        outcome.table = None;
        outcome.single_worker.clear();
    }
    let mut text = serde_json::to_vec(&short).unwrap_or_default();
    if text.len() > TERMINATION_BYTES {
        // Kubernetes would cut it at any byte, which leaves invalid JSON.
        match &mut short {
            Event::Done { outcome } => {
                outcome.stages.clear();
                outcome.warnings.clear();
                if let Some(reason) = &mut outcome.fell_back {
                    shorten(reason);
                }
            }
            Event::Error(error) => shorten(&mut error.message),
            Event::Planned(_) | Event::Stage(_) | Event::Worker(_) => {}
        }
        text = serde_json::to_vec(&short).unwrap_or_default();
    }
    let _ = std::fs::write(path, text);
}

/// Cuts a text so that its JSON, escapes included, leaves room for the rest of a termination message.
fn shorten(text: &mut String) {
    let fits = |end: &usize| serde_json::to_string(&text[..*end]).is_ok_and(|json| json.len() <= TERMINATION_BYTES / 2);
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let end = ends.take_while(fits).last().unwrap_or(0);
    if end < text.len() {
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_of_a_termination_message_are_cut_where_a_character_ends() {
        let mut long = "\"ä\n".repeat(4000);
        shorten(&mut long);
        assert!(long.ends_with('…'), "{long}");
        assert!(serde_json::to_string(&long).unwrap().len() <= TERMINATION_BYTES / 2 + '…'.len_utf8());
        let mut short = "it fits".to_string();
        shorten(&mut short);
        assert_eq!(short, "it fits");
    }
}
