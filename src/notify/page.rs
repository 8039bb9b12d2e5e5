//! A message on its way to one target: its words, and the texts that its integration has written, each replaced where it cannot be used.
//!
//! A text in Go's template language is not run: where sluice has a text of its own that stands there; where it has none (an address, a field of a table), its
//! translation. Both are reported when the file is read (`doubts`).

use crate::alert::message::Message;
use crate::alert::translate;
use crate::config::receivers::Text;
use crate::config::receivers::Texts;
use crate::notify::Outcome;
use crate::notify::data::Data;
use crate::notify::say;
use crate::notify::say::Dialect;
use crate::notify::template;

/// What a written text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Letters and nothing else.
    Plain,
    /// A template that can be run.
    Ours,
    /// Alertmanager's own default, named.
    Default,
    /// In Go's template language; and what it is in ours, where that is known.
    Go(Option<String>),
    /// A template of neither language.
    Broken(String),
}

/// What a text is.
pub fn judge(text: &str) -> Written {
    if !template::is_template(text) {
        return Written::Plain;
    }
    let Err(why) = template::check(text) else { return Written::Ours };
    if translate::names_default(text) {
        return Written::Default;
    }
    match translate::is_go(text) {
        true => Written::Go(translate::translate(text).filter(|ours| template::check(ours).is_ok())),
        false => Written::Broken(why),
    }
}

/// A message, and what it says.
pub struct Page<'a> {
    /// What is told.
    pub message: &'a Message,
    /// In its receivers' words.
    pub data: Data<'a>,
}

impl<'a> Page<'a> {
    /// With at most so many alerts (0: all).
    pub fn new(message: &'a Message, external: &'a str, most: usize) -> Page<'a> {
        Page { message, data: Data::new(message, external, most) }
    }

    /// Whether anything still fires.
    pub fn firing(&self) -> bool {
        self.data.status == "firing"
    }

    fn run(&self, text: &str, dialect: Dialect) -> Result<String, String> {
        template::render(text, self.message, &self.data, dialect)
    }

    /// A text for people: what is written, or ours.
    pub fn text(&self, written: Option<&Text>, dialect: Dialect, ours: impl FnOnce() -> String) -> String {
        let Some(written) = written else { return ours() };
        match judge(&written.text) {
            Written::Plain => written.text.clone(),
            Written::Default | Written::Go(_) | Written::Broken(_) => ours(),
            Written::Ours => self.run(&written.text, dialect).unwrap_or_else(|why| {
                tracing::warn!(
                    line = written.place.line,
                    key = written.place.key,
                    "a template cannot be carried out, sluice's own text is sent: {why}"
                );
                ours()
            }),
        }
    }

    /// One of several, by key.
    pub fn one(&self, texts: &Texts, key: &str, dialect: Dialect, ours: impl FnOnce() -> String) -> String {
        self.text(texts.iter().find(|(known, _)| *known == key).map(|(_, text)| text), dialect, ours)
    }

    /// A part for which sluice has no text of its own: what is written, its translation, or nothing.
    pub fn part(&self, written: &Text, dialect: Dialect) -> String {
        self.exact(written, dialect).unwrap_or_else(|why| {
            tracing::warn!(
                line = written.place.line,
                key = written.place.key,
                "a template cannot be carried out, nothing stands in its place: {why}"
            );
            String::new()
        })
    }

    fn exact(&self, written: &Text, dialect: Dialect) -> Result<String, String> {
        match judge(&written.text) {
            Written::Plain => Ok(written.text.clone()),
            Written::Ours => self.run(&written.text, dialect),
            Written::Go(Some(ours)) => self.run(&ours, dialect),
            Written::Default => Ok(say::subject(&self.data)),
            Written::Go(None) => Err("it is in Go's template language, and cannot be translated".to_owned()),
            Written::Broken(why) => Err(why),
        }
    }

    /// Where a message goes: what is written, exactly, or nothing is sent.
    pub fn address(&self, written: &Text) -> Result<String, Outcome> {
        self.exact(written, Dialect::Plain).map_err(|why| Outcome::Never { why: format!("{}: {why}", written.place.key) })
    }
}
