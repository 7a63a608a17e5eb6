// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the keys do: as in `htop`, where that has a key for it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::{Mode, Model, Sort};

/// What a key asks of the world outside the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing but a new picture.
    Redraw,
    /// Data of another kind.
    Fetch,
    /// To leave.
    Quit,
    /// To go to the background.
    Suspend,
}

/// The keys, for the help page.
pub(crate) const KEYS: [(&str, &str); 14] = [
    ("Up Down PgUp PgDn", "move the mark (also k j, Home End)"),
    (
        "Tab  Shift-Tab",
        "processes, jobs, containers, systemd units, users",
    ),
    ("F3 or /", "search; F3 again finds the next"),
    (
        "F4 or \\",
        "filter: show only what has these words; Esc clears",
    ),
    ("F5 or t", "tree: processes below their parents"),
    ("F6 or >", "choose what to sort by"),
    ("P", "sort by CPU"),
    ("W", "sort by power"),
    ("E", "sort by energy"),
    ("N", "sort by process id"),
    ("I", "turn the order round"),
    ("u", "show one user's only"),
    ("Space or p", "pause"),
    ("F10 or q", "quit"),
];

/// Does what a key asks. `page` is how many lines a page has.
pub(crate) fn on_key(model: &mut Model, key: KeyEvent, page: usize) -> Wish {
    if key.kind == KeyEventKind::Release {
        return Wish::Redraw;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        match key.code {
            KeyCode::Char('c') => return Wish::Quit,
            KeyCode::Char('z') => return Wish::Suspend,
            _ => {}
        }
    }
    if key.code == KeyCode::F(10) {
        return Wish::Quit;
    }
    match model.mode.clone() {
        Mode::List => return on_list(model, key.code, page),
        Mode::Search(words) => on_search(model, key.code, words),
        Mode::Filter => on_filter(model, key.code),
        Mode::SortMenu(marked) => on_sort_menu(model, key.code, marked),
        Mode::UserMenu(marked) => on_user_menu(model, key.code, marked),
        Mode::Help => model.mode = Mode::List,
    }
    Wish::Redraw
}

fn on_list(model: &mut Model, key: KeyCode, page: usize) -> Wish {
    let page = isize::try_from(page.max(1)).unwrap_or(isize::MAX);
    match key {
        KeyCode::Char('q') => return Wish::Quit,
        KeyCode::Up | KeyCode::Char('k') => model.step(-1),
        KeyCode::Down | KeyCode::Char('j') => model.step(1),
        KeyCode::PageUp => model.step(-page),
        KeyCode::PageDown => model.step(page),
        KeyCode::Home => model.step(isize::MIN),
        KeyCode::End => model.step(isize::MAX),
        KeyCode::Tab => {
            model.next_kind(1);
            return Wish::Fetch;
        }
        KeyCode::BackTab => {
            model.next_kind(4);
            return Wish::Fetch;
        }
        KeyCode::F(3) | KeyCode::Char('/') => model.mode = Mode::Search(String::new()),
        KeyCode::F(4) | KeyCode::Char('\\') => model.mode = Mode::Filter,
        KeyCode::F(5) | KeyCode::Char('t') => model.change(|m| m.tree = !m.tree),
        KeyCode::F(6) | KeyCode::Char('>' | '<') => {
            let marked = Sort::ALL
                .iter()
                .position(|&sort| sort == model.sort)
                .unwrap_or(0);
            model.mode = Mode::SortMenu(marked);
        }
        KeyCode::Char('P') => sort_by(model, Sort::Cpu),
        KeyCode::Char('W') => sort_by(model, Sort::Watts),
        KeyCode::Char('E') => sort_by(model, Sort::Energy),
        KeyCode::Char('N') => sort_by(model, Sort::Pid),
        KeyCode::Char('I') => model.change(|m| m.inverted = !m.inverted),
        KeyCode::Char('u') => model.mode = Mode::UserMenu(0),
        KeyCode::Char(' ' | 'p') => model.paused = !model.paused,
        KeyCode::F(1) | KeyCode::Char('h' | '?') => model.mode = Mode::Help,
        KeyCode::Esc => model.change(|m| {
            m.filter.clear();
            m.user = None;
        }),
        _ => {}
    }
    Wish::Redraw
}

fn sort_by(model: &mut Model, sort: Sort) {
    model.change(|m| (m.sort, m.inverted) = (sort, false));
}

fn on_search(model: &mut Model, key: KeyCode, mut words: String) {
    let next = match key {
        KeyCode::Esc | KeyCode::Enter => {
            model.mode = Mode::List;
            return;
        }
        KeyCode::F(3) | KeyCode::Down => true,
        KeyCode::Backspace => {
            words.pop();
            false
        }
        KeyCode::Char(letter) => {
            words.push(letter);
            false
        }
        _ => return,
    };
    model.search(&words, next);
    model.mode = Mode::Search(words);
}

fn on_filter(model: &mut Model, key: KeyCode) {
    match key {
        KeyCode::Enter => model.mode = Mode::List,
        KeyCode::Esc => {
            model.mode = Mode::List;
            model.change(|m| m.filter.clear());
        }
        KeyCode::Backspace => model.change(|m| {
            m.filter.pop();
        }),
        KeyCode::Char(letter) => model.change(|m| m.filter.push(letter)),
        _ => {}
    }
}

fn on_sort_menu(model: &mut Model, key: KeyCode, marked: usize) {
    match in_menu(key, marked, Sort::ALL.len()) {
        Menu::Stay(marked) => model.mode = Mode::SortMenu(marked),
        Menu::Leave => model.mode = Mode::List,
        Menu::Choose => {
            model.mode = Mode::List;
            sort_by(model, Sort::ALL[marked]);
        }
    }
}

fn on_user_menu(model: &mut Model, key: KeyCode, marked: usize) {
    let users = model.users();
    match in_menu(key, marked, users.len() + 1) {
        Menu::Stay(marked) => model.mode = Mode::UserMenu(marked),
        Menu::Leave => model.mode = Mode::List,
        Menu::Choose => {
            model.mode = Mode::List;
            let user = marked.checked_sub(1).and_then(|i| users.get(i).cloned());
            model.change(|m| m.user = user);
        }
    }
}

enum Menu {
    Stay(usize),
    Leave,
    Choose,
}

fn in_menu(key: KeyCode, marked: usize, count: usize) -> Menu {
    match key {
        KeyCode::Up | KeyCode::Char('k') => Menu::Stay(marked.saturating_sub(1)),
        KeyCode::Down | KeyCode::Char('j') => Menu::Stay((marked + 1).min(count - 1)),
        KeyCode::Enter => Menu::Choose,
        KeyCode::Esc | KeyCode::Char('q') => Menu::Leave,
        _ => Menu::Stay(marked.min(count - 1)),
    }
}

#[cfg(test)]
mod tests {
    use eco_agent::api::{Unit, Units};

    use super::*;
    use crate::top::model::{Kind, Row};

    fn model() -> Model {
        let unit = |name: &str, user: &str, watts| Unit {
            name: name.into(),
            label: name.into(),
            user: Some(user.into()),
            watts,
            ..Unit::default()
        };
        let units = vec![
            unit("aa", "ann", 3.0),
            unit("ab", "bob", 2.0),
            unit("cc", "ann", 1.0),
        ];
        let mut model = Model::default();
        model.feed(Units {
            units,
            ..Units::default()
        });
        model
    }

    fn press(model: &mut Model, keys: &[KeyCode]) -> Wish {
        let mut wish = Wish::Redraw;
        for &key in keys {
            wish = on_key(model, KeyEvent::from(key), 2);
        }
        wish
    }

    fn typed(model: &mut Model, words: &str) {
        for letter in words.chars() {
            press(model, &[KeyCode::Char(letter)]);
        }
    }

    fn shown(model: &Model) -> Vec<&str> {
        let name = |row: &Row| model.units.units[row.unit].name.as_str();
        model.rows().iter().map(name).collect()
    }

    #[test]
    fn quitting_works_by_every_known_key() {
        for key in [KeyCode::Char('q'), KeyCode::F(10)] {
            assert_eq!(press(&mut model(), &[key]), Wish::Quit);
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let mut typing = model();
        press(&mut typing, &[KeyCode::F(4)]);
        assert_eq!(on_key(&mut typing, interrupt, 2), Wish::Quit);
    }

    #[test]
    fn letters_are_words_while_filtering() {
        let mut model = model();
        press(&mut model, &[KeyCode::F(4)]);
        typed(&mut model, "aq");
        assert_eq!((model.filter.as_str(), shown(&model).len()), ("aq", 0));
        press(&mut model, &[KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!(shown(&model), ["aa", "ab"]);
        press(&mut model, &[KeyCode::Esc]);
        assert_eq!(shown(&model).len(), 3);
    }

    #[test]
    fn a_search_goes_from_match_to_match() {
        let mut model = model();
        press(&mut model, &[KeyCode::Char('/')]);
        typed(&mut model, "a");
        assert_eq!(model.selected(), 0);
        press(&mut model, &[KeyCode::F(3)]);
        assert_eq!(model.selected(), 1);
        press(&mut model, &[KeyCode::F(3)]);
        assert_eq!(model.selected(), 0);
        press(&mut model, &[KeyCode::Esc]);
        assert_eq!(model.mode, Mode::List);
    }

    #[test]
    fn the_sort_menu_sets_the_order() {
        let mut model = model();
        press(
            &mut model,
            &[KeyCode::F(6), KeyCode::Down, KeyCode::Down, KeyCode::Down],
        );
        press(&mut model, &[KeyCode::Down, KeyCode::Enter]);
        assert_eq!(model.sort, Sort::Name);
        press(&mut model, &[KeyCode::Char('I')]);
        assert_eq!(shown(&model), ["cc", "ab", "aa"]);
        press(&mut model, &[KeyCode::Char('P')]);
        assert_eq!((model.sort, model.inverted), (Sort::Cpu, false));
    }

    #[test]
    fn a_user_is_chosen_from_a_menu_and_given_up_with_escape() {
        let mut model = model();
        press(
            &mut model,
            &[
                KeyCode::Char('u'),
                KeyCode::Down,
                KeyCode::Down,
                KeyCode::Enter,
            ],
        );
        assert_eq!(
            (model.user.as_deref(), shown(&model)),
            (Some("bob"), vec!["ab"])
        );
        press(&mut model, &[KeyCode::Esc]);
        assert_eq!(shown(&model).len(), 3);
    }

    #[test]
    fn a_menu_whose_users_went_away_chooses_nobody() {
        let mut model = model();
        press(
            &mut model,
            &[KeyCode::Char('u'), KeyCode::Down, KeyCode::Down],
        );
        model.feed(Units::default());
        press(&mut model, &[KeyCode::Enter]);
        assert_eq!(model.user, None);
    }

    #[test]
    fn tab_asks_for_another_kind() {
        let mut model = model();
        assert_eq!(press(&mut model, &[KeyCode::Tab]), Wish::Fetch);
        assert_eq!(model.kind, Kind::Job);
        assert_eq!(press(&mut model, &[KeyCode::BackTab]), Wish::Fetch);
        assert_eq!(model.kind, Kind::Process);
    }

    #[test]
    fn any_key_closes_the_help() {
        let mut model = model();
        press(&mut model, &[KeyCode::F(1)]);
        assert_eq!(model.mode, Mode::Help);
        assert_eq!(press(&mut model, &[KeyCode::Char('q')]), Wish::Redraw);
        assert_eq!(model.mode, Mode::List);
    }

    #[test]
    fn no_key_upsets_an_empty_list() {
        let mut model = Model::default();
        for code in (0..=12)
            .map(KeyCode::F)
            .chain(" qhtuIPWEN/\\>pkjé".chars().map(KeyCode::Char))
        {
            press(
                &mut model,
                &[
                    code,
                    KeyCode::Down,
                    KeyCode::PageUp,
                    KeyCode::End,
                    KeyCode::Enter,
                ],
            );
        }
        assert_eq!(model.rows(), []);
    }
}
