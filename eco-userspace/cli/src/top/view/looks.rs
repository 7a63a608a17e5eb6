// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a terminal can show: colour or none, all letters or ASCII alone.

use std::env;

use ratatui::buffer::Buffer;

use crate::out::colour_wanted;

/// What a picture may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looks {
    /// Colour, which never says anything that words do not.
    pub(crate) colour: bool,
    /// Letters that are not ASCII: bars, frames, names.
    pub(crate) unicode: bool,
}

impl Looks {
    /// What this process's environment asks for.
    pub(crate) fn of_environment() -> Self {
        Self {
            colour: colour_wanted(),
            unicode: is_utf8(|name| env::var(name).ok()),
        }
    }

    /// Puts ASCII in the place of all that this terminal cannot show. A letter of two columns
    /// has left the second one blank already.
    pub(super) fn fit(self, picture: &mut Buffer) {
        if self.unicode {
            return;
        }
        for cell in &mut picture.content {
            let symbol = cell.symbol();
            if !symbol.is_ascii() {
                let ascii = symbol.chars().next().map_or(' ', ascii);
                cell.set_char(ascii);
            }
        }
    }
}

/// Whether the locale's letters are UTF-8: the first of these variables that is set says so, and
/// where none is, the locale is C (POSIX, Environment Variables, 8.2).
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set);
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

fn ascii(letter: char) -> char {
    match letter {
        '▁' => '_',
        '▂' => '.',
        '▃' => ':',
        '▄' => '-',
        '▅' => '=',
        '▆' => '+',
        '▇' => '*',
        '█' => '#',
        '─' => '-',
        '│' | '·' => '|',
        '┌' | '┐' | '└' | '┘' | '├' => '+',
        '▼' => 'v',
        '▲' => '^',
        '›' => '>',
        '×' => 'x',
        '←' => '<',
        '→' => '>',
        'µ' => 'u',
        '…' => '.',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;

    use super::*;

    #[test]
    fn the_first_variable_that_is_set_says_whether_letters_are_utf8() {
        let told = |variables: &'static [(&str, &str)]| {
            is_utf8(|name| {
                let mut set = variables.iter();
                set.find_map(|(known, value)| (*known == name).then(|| (*value).to_owned()))
            })
        };
        assert!(told(&[("LANG", "de_DE.UTF-8")]));
        assert!(told(&[("LANG", "C"), ("LC_CTYPE", "C.utf8")]));
        assert!(!told(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")]));
        assert!(told(&[("LANG", "en_US.UTF-8"), ("LC_ALL", "")]));
        assert!(!told(&[("LANG", "de_DE.ISO-8859-1")]));
        assert!(!told(&[]));
    }

    #[test]
    fn what_cannot_be_shown_becomes_ascii_of_the_same_width() {
        let mut picture = Buffer::empty(Rect::new(0, 0, 12, 1));
        picture.set_string(0, 0, "│▁█ 数é\u{fffd}k", ratatui::style::Style::new());
        let looks = Looks {
            colour: false,
            unicode: false,
        };
        looks.fit(&mut picture);
        let shown: String = picture.content.iter().map(|cell| cell.symbol()).collect();
        assert_eq!(shown, "|_# ? ??k   ");
    }
}
