//! Single rules by example.

use crate::dedup::group::Group;
use crate::dedup::judged::Judged;
use crate::model::Item;
use crate::model::Kind;

#[test]
fn the_leaders_pass_and_the_standbys_are_covered() {
    let (mut group, mut out) = (Group::new("g"), Judged::new());
    for scrape in 0..20_i64 {
        let at = 1_000_000 + scrape * 15_000;
        for (replica, offset) in [("a", 0), ("b", 4000)] {
            let items = (0..3).map(|series| Item { series, time: at + offset, kind: Kind::Float, refused: false });
            group.samples(scrape as u64 * 2, replica, at + offset + 100, items, &mut out);
            assert!(group.counts().balanced());
        }
    }
    group.tick(2_000_000, &mut out);
    let counts = group.counts();
    assert_eq!((counts.received, counts.emitted, counts.covered, counts.waiting), (120, 60, 60, 0));
    let mut image = Vec::new();
    group.write_image(&mut image);
    let mut again = Vec::new();
    Group::read_image(&image).unwrap().write_image(&mut again);
    assert!(image == again);
}
