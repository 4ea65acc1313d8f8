//! GLB, the binary form of glTF 2.0: the meshes of the default scene, in their nodes' places. Skins and morphs are at rest.
//! Own code over serde: the crate `gltf` knows materials and animations too: 55 KB of gzip more in a browser's file.

use alloc::{boxed::Box, format, string::String, vec, vec::Vec};

use glam::{DAffine3, DMat4, DQuat, DVec3};
use serde::Deserialize;

use super::shape::{At, Shape};
use crate::base::Error;

/// The longest description of a scene, bytes: in memory it takes up to sixty times as much.
const JSON: usize = 4 << 20;
/// What a file may require without its shapes being affected.
const HARMLESS: &[&str] = &["KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_"];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Root {
    scene: usize,
    scenes: Vec<Scene>,
    nodes: Vec<Node>,
    meshes: Vec<Mesh>,
    accessors: Vec<Accessor>,
    buffer_views: Vec<View>,
    buffers: Vec<Buffer>,
    extensions_required: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Scene {
    #[serde(default)]
    nodes: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct Node {
    #[serde(default)]
    children: Vec<u32>,
    mesh: Option<u32>,
    matrix: Option<Box<[f64; 16]>>,
    translation: Option<Box<[f64; 3]>>,
    rotation: Option<Box<[f64; 4]>>,
    scale: Option<Box<[f64; 3]>>,
}

#[derive(Debug, Deserialize)]
struct Mesh {
    primitives: Vec<Primitive>,
}

#[derive(Debug, Deserialize)]
struct Primitive {
    attributes: Attributes,
    indices: Option<u32>,
    mode: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Attributes {
    #[serde(rename = "POSITION")]
    position: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Accessor {
    buffer_view: Option<u32>,
    #[serde(default)]
    byte_offset: u32,
    component_type: u32,
    count: u32,
    r#type: String,
    sparse: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct View {
    buffer: u32,
    #[serde(default)]
    byte_offset: u32,
    byte_length: u32,
    byte_stride: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Buffer {
    uri: Option<serde::de::IgnoredAny>,
}

/// Values at equal distances. All of them are in the file: that was checked.
#[derive(Clone, Copy, Debug)]
struct Values {
    start: usize,
    stride: usize,
    size: usize,
    count: usize,
}

impl Values {
    fn at<'a>(&self, bytes: &'a [u8], i: usize) -> &'a [u8] {
        &bytes[self.start + i * self.stride..][..self.size]
    }
}

/// A primitive that is being read.
#[derive(Debug)]
struct Part {
    place: DAffine3,
    positions: Values,
    indices: Option<Values>,
    mode: u32,
    /// The first of its vertices.
    base: usize,
    /// Vertices read.
    vertices: usize,
    /// Triangles read.
    triangles: usize,
}

#[derive(Debug)]
pub(super) struct Glb {
    bytes: Vec<u8>,
    pub(super) at: usize,
    root: Root,
    /// Where the data begin and end in the file.
    data: (usize, usize),
    /// Nodes that are to be visited.
    ahead: Vec<(u32, DAffine3)>,
    visited: Vec<bool>,
    /// A mesh, its next primitive, its place.
    mesh: Option<(usize, usize, DAffine3)>,
    part: Option<Part>,
}

pub(super) fn is_glb(bytes: &[u8]) -> bool {
    bytes.starts_with(b"glTF")
}

impl Glb {
    pub(super) fn new(bytes: Vec<u8>) -> Result<Glb, Error> {
        let word = |at: usize| bytes.get(at..at + 4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        if word(4) != Some(2) {
            return Err(At::Byte(4).unread("not version 2 of glTF"));
        }
        if word(8).map(|n| n as usize) != Some(bytes.len()) {
            return Err(At::Byte(8).malformed(format!("its length does not say {}", bytes.len())));
        }
        // A chunk: length, kind, content. The first is JSON; the second, if there is one, has the data.
        let chunk = |at: usize, kind: &[u8; 4]| {
            let end = (at + 8).checked_add(word(at)? as usize)?;
            (bytes.get(at + 4..at + 8)? == kind && end <= bytes.len()).then_some((at + 8, end))
        };
        let json = chunk(12, b"JSON").ok_or_else(|| At::Byte(12).malformed("no whole JSON chunk"))?;
        if json.1 - json.0 > JSON {
            return Err(At::Byte(12).unread(format!("a JSON chunk of more than {JSON} bytes")));
        }
        let data = if json.1 == bytes.len() { Some((json.1, json.1)) } else { chunk(json.1, b"BIN\0") };
        let data = data.ok_or_else(|| At::Byte(json.1).malformed("no whole chunk of data"))?;
        let root: Root = serde_json::from_slice(&bytes[json.0..json.1])
            .map_err(|e| At::Byte(json.0).malformed("its JSON is not that of glTF").caused_by(Box::new(e)))?;
        if let Some(name) = root.extensions_required.iter().find(|name| !HARMLESS.iter().any(|h| name.starts_with(h))) {
            let name: String = name.chars().take(64).collect();
            return Err(At::Byte(json.0).unread(format!("it needs {name}, which is not read")).hint("Export it without compression"));
        }
        let scene = root.scenes.get(root.scene).ok_or_else(|| At::Item("scene", root.scene).malformed("there is none"))?;
        let ahead = scene.nodes.iter().rev().map(|n| (*n, DAffine3::IDENTITY)).collect();
        let visited = vec![false; root.nodes.len()];
        Ok(Glb { bytes, at: data.0, root, data, ahead, visited, mesh: None, part: None })
    }

    /// Reads so many vertices and triangles, and says whether those were all.
    pub(super) fn step(&mut self, shape: &mut Shape, budget: &mut usize) -> Result<bool, Error> {
        while *budget > 0 {
            if let Some(part) = &mut self.part {
                if part.read(&self.bytes, shape, budget)? {
                    self.at = self.at.max(part.positions.at(&self.bytes, 0).len() + part.positions.start);
                    self.part = None;
                }
                continue;
            }
            *budget -= 1;
            if let Some((mesh, next, place)) = self.mesh {
                self.mesh = (next < self.root.meshes[mesh].primitives.len()).then_some((mesh, next + 1, place));
                if self.mesh.is_some() {
                    self.part = Some(self.part(mesh, next, place, shape.vertices.len())?);
                }
            } else if let Some((node, above)) = self.ahead.pop() {
                self.visit(node as usize, above)?;
            } else {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn visit(&mut self, index: usize, above: DAffine3) -> Result<(), Error> {
        let at = At::Item("node", index);
        let node = self.root.nodes.get(index).ok_or_else(|| at.malformed("there is none"))?;
        if core::mem::replace(&mut self.visited[index], true) {
            return Err(at.malformed("it is in the scene twice: nodes form trees"));
        }
        let own = match &node.matrix {
            Some(matrix) => DAffine3::from_mat4(DMat4::from_cols_array(matrix)),
            None => DAffine3::from_scale_rotation_translation(
                node.scale.as_deref().map_or(DVec3::ONE, |s| DVec3::from_array(*s)),
                node.rotation.as_deref().map_or(DQuat::IDENTITY, |r| DQuat::from_array(*r)),
                node.translation.as_deref().map_or(DVec3::ZERO, |t| DVec3::from_array(*t)),
            ),
        };
        let place = above * own;
        self.ahead.extend(node.children.iter().rev().map(|child| (*child, place)));
        if let Some(mesh) = node.mesh {
            let mesh = mesh as usize;
            self.root.meshes.get(mesh).ok_or_else(|| at.malformed("there is no such mesh"))?;
            self.mesh = Some((mesh, 0, place));
        }
        Ok(())
    }

    fn part(&self, mesh: usize, index: usize, place: DAffine3, base: usize) -> Result<Part, Error> {
        let primitive = &self.root.meshes[mesh].primitives[index];
        let at = At::Item("mesh", mesh);
        let positions = primitive.attributes.position.ok_or_else(|| at.unread("a primitive without positions"))?;
        let positions = self.values(positions, "VEC3", |kind| (kind == 5126).then_some(12))?;
        let size = |kind| match kind {
            5121 => Some(1),
            5123 => Some(2),
            5125 => Some(4),
            _ => None,
        };
        let indices = primitive.indices.map(|i| self.values(i, "SCALAR", size)).transpose()?;
        let mode = primitive.mode.unwrap_or(4);
        if mode > 6 {
            return Err(at.malformed(format!("a primitive of mode {mode}")));
        }
        Ok(Part { place, positions, indices, mode, base, vertices: 0, triangles: 0 })
    }

    /// The values of an accessor, once they are known to be in the file and of the right kind.
    fn values(&self, index: u32, kind: &str, size: impl Fn(u32) -> Option<usize>) -> Result<Values, Error> {
        let at = At::Item("accessor", index as usize);
        let accessor = self.root.accessors.get(index as usize).ok_or_else(|| at.malformed("there is none"))?;
        if accessor.sparse.is_some() {
            return Err(at.unread("sparse accessors are not read"));
        }
        let size = size(accessor.component_type).filter(|_| accessor.r#type == kind);
        let size = size.ok_or_else(|| at.unread(format!("{} of type {}", accessor.component_type, kind)))?;
        let view = accessor.buffer_view.ok_or_else(|| at.unread("values that are not in the file"))?;
        let view = self.root.buffer_views.get(view as usize).ok_or_else(|| at.malformed("there is no such view"))?;
        if view.buffer != 0 || self.root.buffers.first().is_none_or(|b| b.uri.is_some()) {
            return Err(at.unread("its data are outside of the file"));
        }
        let stride = view.byte_stride.map_or(size, |s| s as usize);
        let long = u64::from(accessor.byte_offset) + u64::from(accessor.count.saturating_sub(1)) * stride as u64 + size as u64;
        let end = u64::from(view.byte_offset) + u64::from(view.byte_length);
        if stride < size || accessor.count == 0 || long > u64::from(view.byte_length) || end > (self.data.1 - self.data.0) as u64 {
            return Err(at.malformed("its values are not all in the file"));
        }
        // Fits: it is within the data.
        let start = self.data.0 + view.byte_offset as usize + accessor.byte_offset as usize;
        Ok(Values { start, stride, size, count: accessor.count as usize })
    }
}

impl Part {
    /// Reads on, and says whether that was all.
    fn read(&mut self, bytes: &[u8], shape: &mut Shape, budget: &mut usize) -> Result<bool, Error> {
        while *budget > 0 && self.vertices < self.positions.count {
            let raw = self.positions.at(bytes, self.vertices);
            let float = |i: usize| f64::from(f32::from_le_bytes([raw[i], raw[i + 1], raw[i + 2], raw[i + 3]]));
            let place = self.place.transform_point3(DVec3::new(float(0), float(4), float(8)));
            shape.vertex(place.to_array(), At::Item("vertex", shape.vertices.len()))?;
            (self.vertices, *budget) = (self.vertices + 1, *budget - 1);
        }
        let count = self.indices.map_or(self.positions.count, |i| i.count);
        let triangles = match self.mode {
            1 => count / 2,
            2 => count,
            3 => count - 1,
            4 => count / 3,
            5 | 6 => count.saturating_sub(2),
            _ => 0,
        };
        while *budget > 0 && self.triangles < triangles {
            let k = self.triangles;
            let corners = match self.mode {
                1 => [2 * k, 2 * k + 1, 2 * k + 1],
                2 => [k, (k + 1) % count, (k + 1) % count],
                3 => [k, k + 1, k + 1],
                4 => [3 * k, 3 * k + 1, 3 * k + 2],
                5 => [k, k + 1, k + 2],
                _ => [0, k + 1, k + 2],
            };
            let at = At::Item("triangle", shape.triangles.len());
            let corners = corners.map(|corner| {
                let Some(indices) = &self.indices else { return corner as u64 };
                indices.at(bytes, corner).iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
            });
            if corners.iter().any(|c| *c >= self.positions.count as u64) {
                return Err(at.malformed(format!("an index past the {} vertices of its primitive", self.positions.count)));
            }
            shape.triangle(corners.map(|c| self.base as i64 + c as i64), at)?;
            (self.triangles, *budget) = (k + 1, *budget - 1);
        }
        Ok(self.vertices == self.positions.count && self.triangles == triangles)
    }
}
