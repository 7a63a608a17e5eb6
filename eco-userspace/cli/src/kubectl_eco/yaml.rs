// SPDX-License-Identifier: Apache-2.0 OR MIT
//! JSON values as YAML, in kubectl's layout: two spaces, and `- ` where the list's name stands.
//!
//! Every text that could be taken for something else stands in the quotes of JSON, which are
//! YAML's double quotes too.

use serde_json::Value;

/// A whole document.
pub(super) fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_block(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => write_block(&mut out, value, 0),
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

fn write_block(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) => {
            for (at, (name, value)) in map.iter().enumerate() {
                // The first of an item stands behind its dash.
                if at > 0 || !out.ends_with("- ") {
                    indent(out, depth);
                }
                out.push_str(&plain(name));
                out.push(':');
                write_value(out, value, depth);
            }
        }
        Value::Array(list) => {
            for item in list {
                indent(out, depth);
                out.push_str("- ");
                if is_block(item) {
                    write_block(out, item, depth + 1);
                } else {
                    out.push_str(&scalar(item));
                    out.push('\n');
                }
            }
        }
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    if !is_block(value) {
        out.push(' ');
        out.push_str(&scalar(value));
        out.push('\n');
        return;
    }
    out.push('\n');
    let is_list = value.is_array();
    write_block(out, value, if is_list { depth } else { depth + 1 });
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        // Numbers, booleans, null, and what is empty are written as in JSON.
        other => other.to_string(),
    }
}

/// A text that is nothing else in YAML; any other in quotes.
fn plain(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let lower = text.to_ascii_lowercase();
    let means_something = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_word && !means_something.contains(&lower.as_str()) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_stand_in_kubectls_layout() {
        let value = json!({
            "items": [{"labels": {"a": "b"}, "watts": 1.5}, {"watts": null}],
            "kind": "pods",
            "none": [],
            "warnings": ["a: b", "true", ""],
        });
        assert_eq!(
            document(&value),
            "items:\n- labels:\n    a: b\n  watts: 1.5\n- watts: null\nkind: pods\nnone: []\nwarnings:\n\
             - \"a: b\"\n- \"true\"\n- \"\"\n"
        );
    }

    #[test]
    fn no_text_becomes_something_else() {
        for text in [
            "1", "1e3", "-", "- a", "#x", "a: b", "null", "No", "é", "a\nb", "*x", "~", "0x1",
        ] {
            let written = document(&json!(text));
            assert_eq!(written, format!("{}\n", json!(text)), "{text}");
        }
        assert_eq!(document(&json!([])), "[]\n");
    }
}
