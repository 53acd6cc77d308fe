//! Maps that hear each other on the device, against the processor's, to the bit.

use engine::cuda::joint::Listeners;
use engine::maps::joint::{self, Heard};
use engine::maps::merge::LevelMaps;

use crate::consistency::{checked, rough_maps, sources};

/// All numbers, so that each is compared.
type Numbers = [u32; 7];

fn numbers(confidence: f32, heard: &Heard) -> Numbers {
    let Heard { seen, agreeing, sure, through, before, apart_px } = *heard;
    [confidence, seen, agreeing, sure, through, before, apart_px].map(f32::to_bits)
}

#[test]
pub fn views_hear_what_they_hear_on_the_processor() {
    let Some(device) = checked() else { return };
    let (mut agreeing, mut through, mut before) = (0.0, 0.0, 0.0);
    for (name, different) in [("joint", false), ("joint of other sizes", true)] {
        let maps: Vec<LevelMaps> = rough_maps(name, 1, different);
        let sources = sources();
        let mut listeners = Listeners::new(&device, &maps, &sources);
        for (view, of_view) in sources.iter().enumerate() {
            let views: Vec<_> = of_view.iter().map(|&source| maps[source].view()).collect();
            let (expected, heard) =
                joint::hear(&maps[view].view(), &views.iter().collect::<Vec<_>>(), |_, heard| *heard).unwrap();
            let (depth, found) = listeners.hear(view, numbers).unwrap();
            let bits = |map: &[f32]| map.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&depth.data), bits(&expected.data), "{name}: view {view}");
            for (i, (found, heard)) in found.iter().zip(&heard).enumerate() {
                let own = maps[view].depth.data[i];
                let is_depth = own > 0.0 && own.is_finite();
                let expected = if is_depth { numbers(maps[view].confidence.data[i], heard) } else { [0; 7] };
                assert_eq!(found, &expected, "{name}: view {view}, pixel {i}");
                agreeing += heard.agreeing;
                through += heard.through;
                before += heard.before;
            }
        }
    }
    // The scene has a ball before a plane: everything that can be said was said.
    assert!(agreeing > 1000.0 && through > 10.0 && before > 10.0, "{agreeing}, {through}, {before}");
}
