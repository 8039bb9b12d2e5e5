//! What was forwarded before a sample, where values are said: by example. `simulation` holds it against a book over random trials.

use crate::dedup::group::Group;
use crate::dedup::group::Switch;
use crate::dedup::judged::Judged;
use crate::model::Before;
use crate::model::Item;
use crate::model::Kind;
use crate::model::NO_VALUE;

const T: i64 = 1_000_000_000;
const I: i64 = 15_000;

struct Play {
    group: Group,
    out: Judged,
    entry: u64,
    /// By entry.
    times: Vec<i64>,
}

/// What passed: time, and time and value of the sample before.
type Passed = (i64, Option<(i64, f64)>);

impl Play {
    fn new() -> Play {
        Play { group: Group::new("g"), out: Judged::new(), entry: 0, times: Vec::new() }
    }

    /// A sample of series 1.
    fn send(&mut self, replica: &str, (kind, bits): (Kind, u64), time: i64) -> Vec<Passed> {
        let item = Item { series: 1, time, kind, refused: false };
        self.group.valued_samples(
            (self.entry, replica),
            time + 100,
            std::iter::once(item),
            |values| {
                values.clear();
                values.push(bits);
            },
            &mut self.out,
        );
        self.entry += 1;
        self.times.push(time);
        self.take()
    }

    fn count(&mut self, replica: &str, time: i64, value: f64) -> Vec<Passed> {
        self.send(replica, (Kind::Float, value.to_bits()), time)
    }

    fn tick(&mut self, at: i64) -> Vec<Passed> {
        self.group.tick(at, &mut self.out);
        self.take()
    }

    fn take(&mut self) -> Vec<Passed> {
        let before = |place: usize| {
            let found = self.out.befores.iter().find(|(of, _)| *of as usize == place);
            found.map(|(_, Before { time, bits })| (*time, f64::from_bits(*bits)))
        };
        let times = &self.times;
        let passed = self.out.passed.iter().enumerate().map(|(place, passed)| (times[passed.entry as usize], before(place))).collect();
        self.out.clear();
        passed
    }

    /// Through its image.
    fn restart(&mut self) {
        let (mut image, mut again) = (Vec::new(), Vec::new());
        self.group.write_image(&mut image);
        self.group = Group::read_image(&image).unwrap();
        self.group.write_image(&mut again);
        assert_eq!(image, again);
    }
}

#[test]
fn the_first_sample_has_none_before_and_the_next_has_the_first() {
    let mut play = Play::new();
    assert_eq!(play.count("a", T, 5.0), [(T, None)]);
    play.restart();
    assert_eq!(play.count("a", T + I, 7.0), [(T + I, Some((T, 5.0)))]);
    assert_eq!(play.count("a", T + I, 7.0), [], "sent again");
}

#[test]
fn it_goes_on_from_another_replica_and_what_waited_follows_what_was_forwarded() {
    let mut play = Play::new();
    for n in 0..4 {
        play.count("a", T + n * I, n as f64);
        play.count("b", T + n * I + 5000, n as f64 + 0.5);
    }
    // a dies; b's samples wait, and the node starts anew meanwhile.
    let (first, second) = (T + 4 * I + 5000, T + 5 * I + 5000);
    assert_eq!(play.count("b", first, 4.5), []);
    play.restart();
    assert_eq!(play.count("b", second, 5.5), []);
    play.restart();
    play.group.switch(&Switch { from: "a", to: "b", reason: "", evidence: "" }, second + 200, &mut play.out);
    assert_eq!(play.take(), [(first, Some((T + 3 * I, 3.0))), (second, Some((first, 4.5)))]);
}

#[test]
fn markers_and_what_is_no_number_are_passed_over() {
    let mut play = Play::new();
    play.count("a", T, 5.0);
    assert_eq!(play.count("a", T + I, f64::NAN), [(T + I, None)]);
    assert_eq!(play.send("a", (Kind::Stale, NO_VALUE), T + 2 * I), []);
    assert_eq!(play.tick(T + 20 * I), [(T + 2 * I, None)]);
    assert_eq!(play.count("a", T + 30 * I, 9.0), [(T + 30 * I, Some((T, 5.0)))]);
    // The same of no replica, whose markers do not wait.
    let mut play = Play::new();
    play.count("", T, 5.0);
    assert_eq!(play.send("", (Kind::Stale, NO_VALUE), T + I), [(T + I, None)]);
    assert_eq!(play.count("", T + 2 * I, 9.0), [(T + 2 * I, Some((T, 5.0)))]);
}

#[test]
fn late_samples_have_none_before_and_are_none() {
    let mut play = Play::new();
    for n in [0, 1, 2, 3, 9] {
        play.count("a", T + n * I, n as f64);
    }
    assert_eq!(play.count("a", T + 6 * I, 6.0), [(T + 6 * I, None)]);
    assert_eq!(play.count("a", T + 10 * I, 10.0), [(T + 10 * I, Some((T + 9 * I, 9.0)))]);
}

#[test]
fn a_sample_whose_value_nobody_said_ends_the_count_and_gives_the_memory_back() {
    let mut play = Play::new();
    let bare = play.group.memory_bytes();
    play.count("a", T, 5.0);
    assert!(play.group.memory_bytes() > bare);
    assert_eq!(play.send("a", (Kind::Float, NO_VALUE), T + I), [(T + I, None)]);
    assert_eq!(play.count("a", T + 2 * I, 9.0), [(T + 2 * I, None)]);
    let (mut image, mut old) = (Vec::new(), Vec::new());
    play.group.write_image(&mut image);
    play.send("a", (Kind::Float, NO_VALUE), T + 3 * I);
    play.group.write_image(&mut old);
    assert_eq!((image[0], old[0]), (2, 1), "a group that knows no value has the image that it always had");
    play.count("a", T + 4 * I, 9.0);
    play.count("a", T + 600 * I, 9.0);
    play.group.forget(I, I);
    assert_eq!(play.count("a", T + 601 * I, 10.0), [(T + 601 * I, Some((T + 600 * I, 9.0)))]);
}

/// Every cut and every flipped bit of an image with values is an error or a group that works.
#[test]
fn a_damaged_image_with_values_never_panics() {
    let mut play = Play::new();
    for n in 0..4 {
        play.count("a", T + n * I, n as f64 * 1000.0);
        play.count("b", T + n * I + 5000, n as f64 * 1000.0 + 0.1);
    }
    let mut image = Vec::new();
    play.group.write_image(&mut image);
    assert!((0..image.len()).all(|end| Group::read_image(&image[..end]).is_err()));
    let mut read = 0;
    for bit in 0..image.len() * 8 {
        let mut damaged = image.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let Ok(group) = Group::read_image(&damaged) else { continue };
        read += 1;
        let mut other = Play { group, ..Play::new() };
        other.times = vec![0; 1 << 10];
        other.entry = 1 << 10;
        other.count("a", T + 4 * I, 4.0);
        other.group.switch(&Switch { from: "a", to: "b", reason: "", evidence: "" }, T + 5 * I, &mut other.out);
        other.group.tick(T + 100 * I, &mut other.out);
        assert!(other.out.befores.iter().all(|(place, _)| (*place as usize) < other.out.passed.len()));
        other.group.write_image(&mut Vec::new());
    }
    assert!(read > 0);
}
