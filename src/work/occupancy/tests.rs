use std::{collections::BTreeSet, format, string::String, vec, vec::Vec};

use glam::DVec3;
use proptest::prelude::*;

use super::*;

const CORNERS: [[f32; 3]; 8] = [
    [-1.0, -1.0, -1.0],
    [1.0, -1.0, -1.0],
    [1.0, 1.0, -1.0],
    [-1.0, 1.0, -1.0],
    [-1.0, -1.0, 1.0],
    [1.0, -1.0, 1.0],
    [1.0, 1.0, 1.0],
    [-1.0, 1.0, 1.0],
];
const SIDES: [[u8; 4]; 6] = [[0, 3, 2, 1], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]];

const OBJ: &str = "# a cube\no cube\nv -1 -1 -1\nv 1 -1 -1\nv 1 1 -1\nv -1 1 -1\nv -1 -1 1\nv 1 -1 1 0.5 0.5 0.5\nv 1 1 1\nv -1 1 1\n\
    vt 0 0\nvn 0 0 1\nf 1 4 3 2\nf 5/1 6/1 7/1 8/1\r\nf 1//1 2//1 6//1 5//1\nf -7/1/1 -6/1/1 -2/1/1 -3/1/1\nf 3 4 8 7\nf 4 1 5 8";

/// The cube, with a property and an element more than needed.
fn ply(format: &str) -> Vec<u8> {
    let mut out = format!(
        "ply\nformat {format} 1.0\ncomment a cube\nelement vertex 8\nproperty uchar red\nproperty float x\nproperty double y\n\
        property float32 z\nelement material 1\nproperty list short int ids\nelement face 6\nproperty list uchar int vertex_indices\n\
        property float quality\nend_header\n"
    )
    .into_bytes();
    let value = |text: String, mut bytes: Vec<u8>, out: &mut Vec<u8>| match format {
        "ascii" => out.extend_from_slice((text + " ").as_bytes()),
        "binary_little_endian" => out.extend_from_slice(&bytes),
        _ => {
            bytes.reverse();
            out.extend_from_slice(&bytes);
        }
    };
    let end = |out: &mut Vec<u8>| out.extend_from_slice(if format == "ascii" { b"\n" } else { b"" });
    for [x, y, z] in CORNERS {
        value("255".into(), vec![255], &mut out);
        value(format!("{x}"), x.to_le_bytes().into(), &mut out);
        value(format!("{y:e}"), f64::from(y).to_le_bytes().into(), &mut out);
        value(format!("{z}"), z.to_le_bytes().into(), &mut out);
        end(&mut out);
    }
    value("2".into(), 2i16.to_le_bytes().into(), &mut out);
    for id in [-1i32, 70_000] {
        value(format!("{id}"), id.to_le_bytes().into(), &mut out);
    }
    end(&mut out);
    for side in SIDES {
        value("4".into(), vec![4], &mut out);
        side.iter().for_each(|corner| value(format!("{corner}"), i32::from(*corner).to_le_bytes().into(), &mut out));
        value("0.5".into(), 0.5f32.to_le_bytes().into(), &mut out);
        end(&mut out);
    }
    out
}

fn chunks(json: &str, data: &[u8]) -> Vec<u8> {
    let mut json = json.as_bytes().to_vec();
    json.resize(json.len().next_multiple_of(4), b' ');
    let mut out = b"glTF\x02\0\0\0".to_vec();
    out.extend_from_slice(&(28 + json.len() as u32 + data.len() as u32).to_le_bytes());
    for (kind, content) in [(b"JSON", &json[..]), (b"BIN\0", data)] {
        out.extend_from_slice(&(content.len() as u32).to_le_bytes());
        out.extend_from_slice(kind);
        out.extend_from_slice(content);
    }
    out
}

/// A cube half as large and moved, which its nodes put right.
fn glb(edit: impl Fn(&str) -> String) -> Vec<u8> {
    let mut data: Vec<u8> = CORNERS.iter().flatten().flat_map(|v| (v / 2.0 + 3.0).to_le_bytes()).collect();
    for [a, b, c, d] in SIDES {
        data.extend_from_slice(&[a, b, c, a, c, d]);
    }
    let json = r#"{"asset":{"version":"2.0"},"scene":0,"scenes":[{"nodes":[1]}],"nodes":[{"mesh":0,"translation":[-3,-3,-3]},
        {"children":[0],"matrix":[2,0,0,0,0,2,0,0,0,0,2,0,0,0,0,1],"extras":{}}],
        "meshes":[{"primitives":[{"attributes":{"POSITION":0},"indices":1,"mode":4}]}],
        "accessors":[{"bufferView":0,"componentType":5126,"count":8,"type":"VEC3"},
        {"bufferView":1,"componentType":5121,"count":36,"type":"SCALAR"}],
        "bufferViews":[{"buffer":0,"byteLength":96},{"buffer":0,"byteOffset":96,"byteLength":36}],"buffers":[{"byteLength":132}]}"#;
    chunks(&edit(json), &data)
}

fn files() -> Vec<Vec<u8>> {
    let plys = ["ascii", "binary_little_endian", "binary_big_endian"].map(ply);
    plys.into_iter().chain([OBJ.into(), glb(str::to_owned)]).collect()
}

fn with(bytes: impl Into<Vec<u8>>, cell: f32) -> Result<Grid, Error> {
    Occupancy::new(bytes.into(), Parameters { cell: Some(cell) })?.finish()
}

#[test]
fn one_cube_gives_one_grid_in_all_formats_and_it_is_hollow() {
    let expected = with(OBJ, 0.25).unwrap();
    assert_eq!((expected.dims(), expected.origin(), expected.cell()), ([8; 3], [-1.0; 3], 0.25));
    let shell = |v: &[u32; 3]| v.iter().any(|c| [0, 7].contains(c));
    assert!(expected.cells().all(|c| shell(&c)), "nothing inside");
    assert_eq!(expected.count(), 8 * 8 * 8 - 6 * 6 * 6, "the shell is whole");
    for (i, file) in files().into_iter().enumerate() {
        assert_eq!(with(file, 0.25).unwrap(), expected, "file {i}");
    }
    assert!(expected.occupied(0, 3, 3) && !expected.occupied(3, 3, 3) && !expected.occupied(8, 0, 0));
    let automatic = Occupancy::new(OBJ.into(), Parameters::default()).unwrap().finish().unwrap();
    assert_eq!((automatic.dims(), automatic.cell()), ([128; 3], 2.0 / 128.0));
}

#[test]
fn steps_of_any_size_give_the_same_and_progress_only_grows() {
    for file in files() {
        let whole = with(file.clone(), 0.25).unwrap();
        for budget in [0, 1, 7, 1000] {
            let mut work = Occupancy::new(file.clone(), Parameters { cell: Some(0.25) }).unwrap();
            let (mut last, mut steps) = (work.progress(), 0);
            while !last.is_complete() {
                let next = work.step(budget).unwrap();
                assert!(next.done >= last.done && next.total == last.total, "{last:?} {next:?}");
                (last, steps) = (next, steps + 1);
            }
            assert!(budget < 1000 || steps < 10);
            assert_eq!(work.finish().unwrap(), whole);
        }
    }
}

#[test]
fn points_and_lines_occupy_their_cells() {
    let cloud = with("v 0 0 0\nv 1 0 0\nv 3 2 1\n", 1.0).unwrap();
    assert_eq!((cloud.dims(), cloud.cells().collect::<Vec<_>>()), ([3, 2, 1], vec![[0, 0, 0], [1, 0, 0], [2, 1, 0]]));
    let line = with("v 0 0.5 0.5\nv 3 0.5 0.5\nl 1 2", 1.0).unwrap();
    assert_eq!(line.count(), 3);
    let point = Occupancy::new("v 5 5 5".into(), Parameters::default()).unwrap().finish().unwrap();
    assert_eq!((point.dims(), point.cell(), point.count()), ([1; 3], 1.0, 1));
    let points = glb(|json| json.replace(r#""indices":1,"mode":4"#, r#""mode":0"#));
    assert_eq!(with(points, 0.25).unwrap().count(), 8);
    // The indices as lines, triangles, strips and fans: all join the corners by more than the corners' cells.
    for mode in 1..=6 {
        let grid = with(glb(|json| json.replace(r#""mode":4"#, &format!(r#""mode":{mode}"#))), 0.25).unwrap();
        assert!(grid.count() > 8, "mode {mode}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let ascii = String::from_utf8(ply("ascii")).unwrap();
    let cases: Vec<(Vec<u8>, Code, &str)> = vec![
        ("hello".into(), Code::BadArgument, "neither"),
        ("# nothing\n".into(), Code::BadArgument, "neither"),
        ("o empty".into(), Code::Malformed, "no vertex"),
        ("v 1 2\n".into(), Code::Malformed, "line 1: a vertex has three"),
        ("v 1 2 inf".into(), Code::Malformed, "line 1: a coordinate"),
        ("v 1 2 1e39".into(), Code::Malformed, "line 1: a coordinate"),
        ("v 1 2 3\nf 1 1 2".into(), Code::Malformed, "line 2: vertex 1, counted from 0, of 1"),
        ("v 1 2 3\nf 1 1 0".into(), Code::Malformed, "line 2: `0` names no vertex"),
        ("v 1 2 3\nf 1 1".into(), Code::Malformed, "line 2: a face with 2"),
        ("v 0 0 0\nv 9e9 0 0".into(), Code::BadArgument, "are more than"),
        ("ply\nformat ascii 1.0\n".into(), Code::Malformed, "line 3: the header has no end"),
        (ascii.replace("vertex 8", "vertex 8000000").into(), Code::Malformed, "line 4: more elements"),
        (ascii.replace("float32 z", "float32 w").into(), Code::Malformed, "one each of x, y and z"),
        (ascii.replace("element material", "element tristrips").into(), Code::BadArgument, "line 9: strips"),
        (ascii.replace("255 1 -1e0 -1", "255 1 -1e0 -1 7").into(), Code::Malformed, "vertex 1, counted from 0: more in its line"),
        (ascii.replace("4 0 3 2 1", "4 0 3 2 8").into(), Code::Malformed, "face 0, counted from 0: vertex 8"),
        (ascii.replace("4 0 3 2 1", "4 0 3 2.5 1").into(), Code::Malformed, "face 0, counted from 0: no number of its type at byte"),
        (ply("binary_big_endian").into_iter().rev().skip(3).rev().collect(), Code::Malformed, "face 5, counted from 0: the file ends"),
        (glb(|j| j.replace(r#""scene":0"#, r#""scene":1"#)), Code::Malformed, "scene 1"),
        (glb(|j| j.replace(r#""count":8"#, r#""count":9"#)), Code::Malformed, "accessor 0, counted from 0: its values"),
        (glb(|j| j.replace(r#""count":8"#, r#""count":7"#)), Code::Malformed, "an index past the 7 vertices"),
        (glb(|j| j.replace(r#""count":8"#, r#""count":8,"sparse":{}"#)), Code::BadArgument, "sparse"),
        (glb(|j| j.replace(r#"[0],"matrix""#, r#"[0,1],"matrix""#)), Code::Malformed, "node 1, counted from 0: it is in the scene twice"),
        (glb(|j| j.replace(r#""scene":0"#, r#""extensionsRequired":["KHR_draco_mesh_compression"]"#)), Code::BadArgument, "KHR_draco"),
        (glb(|j| j.replace(r#"[{"byteLength""#, r#"[{"uri":"a.bin","byteLength""#)), Code::BadArgument, "outside of the file"),
        (glb(|j| j.replace(r#""mode":4"#, r#""mode":7"#)), Code::Malformed, "mode 7"),
        (glb(|j| j.replace("{", "")), Code::Malformed, "its JSON"),
        (glb(str::to_owned)[..40].into(), Code::Malformed, "byte 8"),
    ];
    for (file, code, text) in cases {
        let shown = String::from_utf8_lossy(&file).into_owned();
        let error = with(file, 0.25).expect_err(&shown);
        assert!(error.code() == code && error.message().contains(text), "{error}, not {text}");
    }
    for cell in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(with(OBJ, cell).unwrap_err().code(), Code::BadArgument);
    }
    let mut failed = Occupancy::new("v 1 2 3\nv".into(), Parameters::default()).unwrap();
    assert!(failed.step(10).is_err() && failed.step(10).is_err() && !failed.progress().is_complete());
}

#[test]
fn a_triangle_across_the_largest_grid_costs_what_it_marks() {
    let mut work = Occupancy::new("v 0 0 0\nv 256 256 0\nv 0 256 256\nf 1 2 3".into(), Parameters { cell: Some(1.0) }).unwrap();
    let mut steps = 0;
    while !work.step(1000).unwrap().is_complete() {
        steps += 1;
    }
    let count = work.finish().unwrap().count();
    assert!(count > 32_000 && steps * 1000 < count as usize * 8, "{steps} thousand for {count} cells");
}

/// The part of a polygon within a box a little larger than a cell.
fn clip(mut polygon: Vec<DVec3>, cell: [u32; 3]) -> Vec<DVec3> {
    for axis in 0..3 {
        for (sign, bound) in [(1.0, f64::from(cell[axis]) + 1.0 + 1e-6), (-1.0, 1e-6 - f64::from(cell[axis]))] {
            let out = |p: DVec3| sign * p[axis] - bound;
            let mut next = Vec::new();
            for (i, a) in polygon.iter().enumerate() {
                let b = polygon[(i + 1) % polygon.len()];
                if out(*a) <= 0.0 {
                    next.push(*a);
                }
                if (out(*a) < 0.0) != (out(b) < 0.0) && out(*a) != out(b) {
                    next.push(*a + (b - *a) * (out(*a) / (out(*a) - out(b))));
                }
            }
            polygon = next;
        }
    }
    polygon
}

fn corner() -> impl Strategy<Value = [f32; 3]> {
    // Quarters often lie on the borders of cells.
    prop_oneof![prop::array::uniform3(0.0f32..12.0), prop::array::uniform3((0u8..48).prop_map(|v| f32::from(v) / 4.0))]
}

proptest! {
    #[test]
    fn a_triangle_marks_the_cells_it_touches_and_no_others(corners in prop::array::uniform3(corner())) {
        let mut text = String::new();
        corners.iter().for_each(|[x, y, z]| text += &format!("v {x} {y} {z}\n"));
        let grid = with(text + "f 1 2 3", 1.0).unwrap();
        let marked: BTreeSet<_> = grid.cells().collect();
        let origin = DVec3::from_array(grid.origin().map(f64::from));
        let [a, b, c] = corners.map(|corner| DVec3::from_array(corner.map(f64::from)) - origin);
        for i in 0..=100 {
            for j in 0..=100 - i {
                let place = a + (b - a) * (f64::from(i) / 100.0) + (c - a) * (f64::from(j) / 100.0);
                let inside = [0, 1, 2].map(|axis| (place[axis].max(0.0) as u32).min(grid.dims()[axis] - 1));
                let border = [0, 1, 2].iter().any(|axis| (place[*axis] - place[*axis].round()).abs() < 1e-9);
                prop_assert!(marked.contains(&inside) || border, "{place} is in no marked cell");
            }
        }
        for cell in marked {
            prop_assert!(!clip(vec![a, b, c], cell).is_empty(), "{cell:?} is not touched");
        }
    }

    #[test]
    fn a_grid_is_what_its_bytes_say(dims in prop::array::uniform3(1u32..9), at in prop::collection::vec(prop::array::uniform3(0u32..9), 0..40),
        byte in 0usize..64, value: u8) {
        let mut grid = Grid::new(dims, [1.0, -2.0, 0.5], 0.1);
        at.iter().for_each(|cell| grid.mark(*cell));
        let mut bytes = grid.encode();
        prop_assert_eq!(&Grid::decode(&bytes).unwrap(), &grid);
        prop_assert_eq!(grid.cells().count(), grid.count() as usize);
        prop_assert!(grid.cells().all(|[x, y, z]| grid.occupied(x, y, z) && at.contains(&[x, y, z])));
        prop_assert!(Grid::decode(&bytes[..bytes.len() - 1]).is_err());
        let byte = byte % bytes.len();
        bytes[byte] = value;
        // Whatever is read at all is written the same.
        if let Ok(other) = Grid::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn files_that_were_damaged_do_no_harm(which in 0usize..5, cut in 0usize..2000, edits in prop::collection::vec((0usize..2000, any::<u8>()), 0..8)) {
        let mut file = files().swap_remove(which);
        for (place, value) in edits {
            let place = place % file.len();
            file[place] = value;
        }
        file.truncate(cut.max(20));
        harmless(file)?;
    }

    #[test]
    fn any_bytes_do_no_harm(start in 0usize..5, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let ply = "ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty double x\nproperty float y\nproperty float z\n\
            element face 9\nproperty list uint uint vertex_index\nend_header\n";
        let start = [&b""[..], b"glTF\x02\0\0\0", b"v ", b"ply\n", ply.as_bytes()][start];
        harmless([start, &bytes].concat())?;
    }
}

/// It ends with a grid or an error, and holds no more than the file accounts for.
fn harmless(file: Vec<u8>) -> Result<(), TestCaseError> {
    let length = file.len();
    let Ok(mut work) = Occupancy::new(file, Parameters::default()) else { return Ok(()) };
    while let Ok(progress) = work.step(50) {
        if let Stage::Read(_, shape) = &work.stage {
            prop_assert!(shape.vertices.capacity() <= 2 * length && shape.triangles.capacity() <= 2 * length);
        }
        if progress.is_complete() {
            return Ok(());
        }
    }
    prop_assert!(matches!(work.stage, Stage::Failed));
    Ok(())
}
