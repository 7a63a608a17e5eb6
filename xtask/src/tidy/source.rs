// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rules for one file at a time: length, licence header, no stubs, no machine paths.

use super::Violation;
use super::code::{calls_of, functions, only_code};
use super::tree::Tree;

/// A file past this is usually two things. Tests do not count: they are read one by one.
const FILE_LINES: usize = 500;

/// A function past this does not fit on a screen.
const FUNCTION_LINES: usize = 80;

const HEADER: &str = "// SPDX-License-Identifier: Apache-2.0 OR MIT";

/// A file that says so in its first lines was written by a program, and follows its rules.
const GENERATED: &str = concat!("@", "generated");

/// Promises of code that is not there.
const STUBS: [&str; 2] = ["todo", "unimplemented"];

/// Folders that exist on the machine where a thing was written and on no other.
/// In two parts, or this file would break its own rule.
const MACHINE_FOLDERS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, text) in tree.ending(".rs") {
        if text.lines().take(5).any(|line| line.contains(GENERATED)) {
            continue;
        }
        header(name, text, &mut found);
        file_length(name, text, &mut found);
        let code = only_code(text);
        function_length(name, &code, &mut found);
        stubs(name, &code, &mut found);
    }
    for (name, text) in tree.texts() {
        machine_paths(name, text, &mut found);
    }
    found
}

fn header(name: &str, text: &str, found: &mut Vec<Violation>) {
    if text.lines().next() != Some(HEADER) {
        let what = format!("the first line is not `{HEADER}`");
        found.push(Violation::new(name, 1, "licence-header", what));
    }
}

fn file_length(name: &str, text: &str, found: &mut Vec<Violation>) {
    let lines = lines_before_tests(text);
    if lines > FILE_LINES && !is_test(name) {
        let what = format!("{lines} lines without tests, at most {FILE_LINES}");
        found.push(Violation::new(name, lines, "file-length", what));
    }
}

fn function_length(name: &str, code: &str, found: &mut Vec<Violation>) {
    for function in functions(code) {
        if function.lines > FUNCTION_LINES {
            let what = format!(
                "`{}` has {} lines, at most {FUNCTION_LINES}",
                function.name, function.lines
            );
            found.push(Violation::new(name, function.line, "function-length", what));
        }
    }
}

fn stubs(name: &str, code: &str, found: &mut Vec<Violation>) {
    for stub in STUBS {
        for line in calls_of(code, stub) {
            found.push(Violation::new(name, line, "no-stubs", format!("`{stub}!`")));
        }
    }
}

fn machine_paths(name: &str, text: &str, found: &mut Vec<Violation>) {
    for (at, line) in text.lines().enumerate() {
        for folder in MACHINE_FOLDERS {
            let starts_a_path = |(start, _): (usize, &str)| {
                !line[..start].ends_with(|c: char| c.is_alphanumeric() || "._-~*}>)]".contains(c))
            };
            if line.match_indices(folder).any(starts_a_path) {
                let what = format!("`{folder}…` is a path of one machine");
                found.push(Violation::new(name, at + 1, "machine-path", what));
            }
        }
    }
}

fn is_test(name: &str) -> bool {
    name.split('/')
        .any(|part| part == "tests" || part == "tests.rs")
}

/// Lines up to the test module that the file holds, or all of them.
fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let starts_tests = |at: &usize| {
        lines[*at].trim() == "#[cfg(test)]"
            && lines[at + 1..]
                .iter()
                .find(|line| !line.trim_start().starts_with("#["))
                .is_some_and(|line| line.trim_start().starts_with("mod ") && line.ends_with('{'))
    };
    (0..lines.len()).find(starts_tests).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(name: &str, text: &str) -> Vec<(&'static str, usize)> {
        let found = check(&Tree::from([(name, text)]));
        found
            .iter()
            .map(|violation| (violation.rule, violation.line))
            .collect()
    }

    fn with_header(text: &str) -> String {
        format!("{HEADER}\n{text}")
    }

    #[test]
    fn every_rust_file_starts_with_its_licence() {
        assert_eq!(rules("a.rs", "fn a() {}\n"), [("licence-header", 1)]);
        assert_eq!(rules("a.rs", ""), [("licence-header", 1)]);
        assert_eq!(rules("a.rs", &with_header("fn a() {}\n")), []);
    }

    #[test]
    fn a_file_is_as_long_as_what_stands_before_its_tests() {
        let just = with_header(&"\n".repeat(FILE_LINES - 1));
        assert_eq!(rules("a.rs", &just), []);
        assert_eq!(
            rules("a.rs", &format!("{just}\n")),
            [("file-length", FILE_LINES + 1)]
        );
        let tests = format!("{just}#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(300));
        assert_eq!(rules("a.rs", &tests), []);
        assert_eq!(rules("tests/a.rs", &format!("{just}\n")), []);
    }

    #[test]
    fn a_test_module_in_a_file_of_its_own_ends_nothing() {
        let text = format!("#[cfg(test)]\nmod tests;\n{}", "\n".repeat(FILE_LINES));
        assert_eq!(
            rules("a.rs", &with_header(&text)),
            [("file-length", FILE_LINES + 3)]
        );
    }

    #[test]
    fn a_function_fits_on_a_screen() {
        let function = |lines: usize| format!("fn f() {{{}}}\n", "\n".repeat(lines - 1));
        assert_eq!(rules("a.rs", &with_header(&function(FUNCTION_LINES))), []);
        let long = with_header(&function(FUNCTION_LINES + 1));
        assert_eq!(rules("a.rs", &long), [("function-length", 2)]);
    }

    #[test]
    fn stubs_are_found_in_code_only() {
        let stub = with_header("// todo!()\nfn f() { let a = \"todo!()\"; todo!() }\n");
        assert_eq!(rules("a.rs", &stub), [("no-stubs", 3)]);
    }

    #[test]
    fn what_a_program_wrote_is_left_alone() {
        assert_eq!(
            rules("a.rs", &format!("// {GENERATED} by a program\ntodo!()\n")),
            []
        );
    }

    #[test]
    fn paths_of_one_machine_are_found_in_any_text() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(
                rules("a.md", &format!("\nsee `{folder}x`\n")),
                [("machine-path", 2)]
            );
            assert_eq!(
                rules("a.md", &format!("/proc/self{folder}x, ~{folder}")),
                []
            );
        }
    }
}
