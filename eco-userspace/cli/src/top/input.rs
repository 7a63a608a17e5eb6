// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the keys do: as in `htop`, where that has a key for it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    feed::Play,
    kind::{Kind, Sort},
    model::{From, Mode, Model},
};

/// What a key asks of the world outside the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing but a new picture.
    Redraw,
    /// That a replay does something.
    Play(Play),
    /// To leave.
    Quit,
    /// To go to the background.
    Suspend,
}

/// The keys, for the help page.
pub(crate) const KEYS: [(&str, &str); 18] = [
    ("Up Down PgUp PgDn", "move the mark (also k j, Home End)"),
    (
        "Enter",
        "go into a pod, job, container…; all about a process",
    ),
    ("Backspace or Esc", "back out"),
    (
        "Tab  Shift-Tab",
        "list the next kind: processes, pods, jobs…",
    ),
    ("F2", "choose the kind to list"),
    ("F3 or /", "search; F3 or Down the next, Up the one before"),
    ("F4 or \\", "filter: show only what has these words"),
    ("F5 or t", "tree: processes below their parents"),
    ("F6 or >", "choose what to sort by"),
    ("P W E N", "sort by CPU, power, energy, process id"),
    ("I", "turn the order round"),
    ("u", "show one user's only"),
    ("Space p Z", "pause"),
    ("Left Right", "in a replay: one picture back or on"),
    ("[ ]", "in a replay: ten pictures back or on"),
    ("+ -", "in a replay: faster, slower"),
    ("Mouse", "mark, scroll; a heading sorts; the way goes back"),
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
        Mode::KindMenu(marked) => on_kind_menu(model, key.code, marked),
        Mode::UserMenu(marked) => on_user_menu(model, key.code, marked),
        Mode::Help | Mode::Details(_) => model.mode = Mode::List,
    }
    Wish::Redraw
}

fn on_list(model: &mut Model, key: KeyCode, page: usize) -> Wish {
    let page = isize::try_from(page.max(1)).unwrap_or(isize::MAX);
    if model.playback.is_some()
        && let Some(play) = in_replay(key)
    {
        return Wish::Play(play);
    }
    match key {
        KeyCode::Char('q') => return Wish::Quit,
        KeyCode::Up | KeyCode::Char('k') => model.step(-1),
        KeyCode::Down | KeyCode::Char('j') => model.step(1),
        KeyCode::PageUp => model.step(-page),
        KeyCode::PageDown => model.step(page),
        KeyCode::Home => model.step(isize::MIN),
        KeyCode::End => model.step(isize::MAX),
        KeyCode::Tab => model.turn(1),
        KeyCode::BackTab => model.turn(-1),
        KeyCode::Enter => model.enter(),
        KeyCode::Backspace => back(model),
        KeyCode::F(2) => {
            let here = model.place().kinds();
            let marked = here.iter().position(|&kind| kind == model.kind());
            model.mode = Mode::KindMenu(marked.unwrap_or(0));
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
        KeyCode::Char('P') => model.sort_by(Sort::Cpu),
        KeyCode::Char('W') => model.sort_by(Sort::Watts),
        KeyCode::Char('E') => model.sort_by(Sort::Energy),
        KeyCode::Char('N') => model.sort_by(Sort::Pid),
        KeyCode::Char('I') => model.change(|m| m.inverted = !m.inverted),
        KeyCode::Char('u') => model.mode = Mode::UserMenu(0),
        KeyCode::Char(' ' | 'p' | 'Z') => model.paused = !model.paused,
        KeyCode::F(1) | KeyCode::Char('h' | '?') => model.mode = Mode::Help,
        KeyCode::Esc if model.filter.is_empty() && model.user.is_none() => back(model),
        KeyCode::Esc => model.change(|m| {
            m.filter.clear();
            m.user = None;
        }),
        _ => {}
    }
    Wish::Redraw
}

fn back(model: &mut Model) {
    model.leave_to(model.place().levels().len().saturating_sub(1));
}

fn in_replay(key: KeyCode) -> Option<Play> {
    match key {
        KeyCode::Char(' ' | 'p' | 'Z') => Some(Play::Pause),
        KeyCode::Left => Some(Play::Step(-1)),
        KeyCode::Right => Some(Play::Step(1)),
        KeyCode::Char('[') => Some(Play::Step(-10)),
        KeyCode::Char(']') => Some(Play::Step(10)),
        KeyCode::Char('+') => Some(Play::Faster),
        KeyCode::Char('-') => Some(Play::Slower),
        _ => None,
    }
}

fn on_search(model: &mut Model, key: KeyCode, mut words: String) {
    let next = match key {
        KeyCode::Esc | KeyCode::Enter => {
            model.mode = Mode::List;
            return;
        }
        KeyCode::F(3) | KeyCode::Down => From::Next,
        KeyCode::Up => From::Previous,
        KeyCode::Backspace => {
            words.pop();
            From::Here
        }
        KeyCode::Char(letter) => {
            words.push(letter);
            From::Here
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
            model.sort_by(Sort::ALL[marked]);
        }
    }
}

fn on_kind_menu(model: &mut Model, key: KeyCode, marked: usize) {
    let kinds: &[Kind] = model.place().kinds();
    match in_menu(key, marked, kinds.len()) {
        Menu::Stay(marked) => model.mode = Mode::KindMenu(marked),
        Menu::Leave => model.mode = Mode::List,
        Menu::Choose => model.list(kinds[marked.min(kinds.len() - 1)]),
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
    use crate::top::rows::Row;

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
    fn tab_lists_another_kind_and_a_menu_any() {
        let mut model = model();
        press(&mut model, &[KeyCode::Tab]);
        assert_eq!(model.kind(), Kind::Pod);
        press(&mut model, &[KeyCode::BackTab]);
        assert_eq!(model.kind(), Kind::Process);
        press(
            &mut model,
            &[KeyCode::F(2), KeyCode::Down, KeyCode::Down, KeyCode::Enter],
        );
        assert_eq!((model.kind(), &model.mode), (Kind::Container, &Mode::List));
    }

    #[test]
    fn keys_of_a_replay_are_such_only_in_one() {
        let mut live = model();
        assert_eq!(press(&mut live, &[KeyCode::Right]), Wish::Redraw);
        let mut replay = model();
        replay.playback = Some(crate::top::model::Playback {
            picture: 1,
            pictures: 2,
            speed: 1.0,
            paused: false,
        });
        assert_eq!(
            press(&mut replay, &[KeyCode::Right]),
            Wish::Play(Play::Step(1))
        );
        assert_eq!(
            press(&mut replay, &[KeyCode::Char(' ')]),
            Wish::Play(Play::Pause)
        );
        assert!(!replay.paused, "the player does that");
    }

    #[test]
    fn escape_gives_up_the_filter_first_and_then_goes_back() {
        let mut model = model();
        model.list(Kind::User);
        model.feed(Units {
            units: vec![Unit {
                name: "ann".into(),
                ..Unit::default()
            }],
            ..Units::default()
        });
        press(&mut model, &[KeyCode::Enter, KeyCode::F(4)]);
        typed(&mut model, "x");
        press(&mut model, &[KeyCode::Enter, KeyCode::Esc]);
        assert_eq!(
            (model.filter.as_str(), model.place().levels().len()),
            ("", 1)
        );
        press(&mut model, &[KeyCode::Esc]);
        assert_eq!(model.place().levels().len(), 0);
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
