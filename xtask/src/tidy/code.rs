// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rust source with all that is not code taken out, and what tidy asks of the rest.
//!
//! A parser would know more and would double the time until xtask is compiled; the rules
//! need only words and braces.

/// The source with every character of comments, strings and character literals made a
/// space. Lines stay where they were.
pub(super) fn only_code(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let length = not_code(&chars, at);
        if length == 0 {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        let end = chars.len().min(at + length);
        code.extend(
            chars[at..end]
                .iter()
                .map(|&c| if c == '\n' { c } else { ' ' }),
        );
        at = end;
    }
    code
}

/// A function: its name, its first line (from 1) and how many lines it spans.
#[derive(Debug, PartialEq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// The functions in text from [`only_code`] that have a body, nested ones included.
pub(super) fn functions(code: &str) -> Vec<Function> {
    words(code)
        .filter(|(_, word)| *word == "fn")
        .filter_map(|(at, _)| {
            let after = &code[at + "fn".len()..];
            let name: String = after
                .trim_start()
                .chars()
                .take_while(|&c| is_word(c))
                .collect();
            // A pointer type, `fn(…)`, has no name.
            let span = if name.is_empty() {
                None
            } else {
                body_end(after)
            }?;
            let lines = after[..span].matches('\n').count() + 1;
            Some(Function {
                name,
                line: line_of(code, at),
                lines,
            })
        })
        .collect()
}

/// Calls of a macro, as lines from 1, in text from [`only_code`].
pub(super) fn calls_of(code: &str, name: &str) -> Vec<usize> {
    words(code)
        .filter(|(at, word)| *word == name && code[at + name.len()..].starts_with('!'))
        .map(|(at, _)| line_of(code, at))
        .collect()
}

/// How many characters from `at` on are a comment or a literal; 0 for code.
fn not_code(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    match rest {
        ['/', '/', ..] => rest.iter().take_while(|&&c| c != '\n').count(),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => string(rest),
        ['\'', '\\', ..] => 3 + rest.iter().skip(3).take_while(|&&c| c != '\'').count() + 1,
        ['\'', _, '\'', ..] => 3,
        ['r', ..] if at == 0 || !is_word(chars[at - 1]) || is_prefix(chars, at - 1) => {
            raw_string(rest)
        }
        _ => 0,
    }
}

/// Whether the one character at `at` is the `b` of `br"…"` or the `c` of `cr"…"`.
fn is_prefix(chars: &[char], at: usize) -> bool {
    matches!(chars[at], 'b' | 'c') && (at == 0 || !is_word(chars[at - 1]))
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of `r"…"` or `r##"…"##`; 0 when it is a word, as in `r` or `r#type`.
fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
    let open = 1 + hashes + 1;
    if rest.get(open - 1) != Some(&'"') {
        return 0;
    }
    let closes = |at: &usize| {
        let after = rest[at + 1..].iter().take(hashes);
        rest[*at] == '"' && after.filter(|&&c| c == '#').count() == hashes
    };
    match (open..rest.len()).find(closes) {
        Some(quote) => quote + 1 + hashes,
        None => rest.len(),
    }
}

/// Where the first body after a signature ends; `None` for a declaration without one.
fn body_end(signature: &str) -> Option<usize> {
    let mut brackets = 0_usize;
    let mut braces = 0_usize;
    for (at, c) in signature.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' if braces == 1 => return Some(at),
            '}' => braces = braces.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + code[from..].find(is_word)?;
        let length = code[start..]
            .find(|c| !is_word(c))
            .unwrap_or(code.len() - start);
        from = start + length;
        Some((start, &code[start..from]))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of a source, spaces squeezed.
    fn left(source: &str) -> String {
        only_code(source)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn comments_are_not_code() {
        assert_eq!(left("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(left("a /* never closed"), "a");
    }

    #[test]
    fn strings_are_not_code() {
        assert_eq!(left(r#"a("{ \" }"); b(b"}")"#), "a( ); b(b )");
        assert_eq!(left(r##"a(r#"{"}"#); b(br"\")"##), "a( ); b(b )");
        assert_eq!(left("a(\"never closed"), "a(");
    }

    #[test]
    fn characters_are_not_code_and_lifetimes_are() {
        assert_eq!(left(r"a('{', '\'', '\u{7d}', b'\\')"), "a( , , , b )");
        assert_eq!(left("fn a<'a>(b: &'a str)"), "fn a<'a>(b: &'a str)");
    }

    #[test]
    fn words_that_start_like_a_raw_string_are_code() {
        assert_eq!(left("r#type r for_r r"), "r#type r for_r r");
    }

    #[test]
    fn lines_stay_where_they_were() {
        let source = "a\n/* b\n c */\n\"d\n e\"\nf";
        assert_eq!(only_code(source).lines().count(), source.lines().count());
        assert_eq!(only_code(source).lines().last(), Some("f"));
    }

    #[test]
    fn a_function_spans_from_its_name_to_its_last_brace() {
        let code =
            "struct A;\nfn f(a: [u8; 2]) -> [u8; 2] {\n    if x { y }\n    a\n}\nfn g() {}\n";
        let expected = [("f", 2, 4), ("g", 6, 1)];
        let found = functions(code);
        let found: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn declarations_and_pointer_types_are_no_functions() {
        assert_eq!(
            functions("trait A { fn f(&self); }\ntype B = fn(u8) -> u8;\n"),
            []
        );
    }

    #[test]
    fn unbalanced_braces_do_not_hang_or_panic() {
        assert_eq!(functions("fn f() {{{"), []);
        assert_eq!(functions("fn f() }"), []);
        assert_eq!(functions("fn"), []);
    }

    #[test]
    fn a_macro_is_found_by_its_whole_name() {
        assert_eq!(calls_of("a!();\nmy_a!();\nb::a!{}\na();", "a"), [1, 3]);
    }
}
