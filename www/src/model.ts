// What a scan looks like: its file, read by three.js.
import { Box3, BufferGeometry, DoubleSide, Mesh, MeshStandardMaterial, type Object3D, Points, PointsMaterial } from 'three';

/** A scan to be drawn. */
export interface Model { object: Object3D; box: Box3; vertices: number }

/** Reads a PLY, OBJ or GLB file. */
export async function model(name: string, content: Blob): Promise<Model> {
  const object = await read(name, content);
  let vertices = 0;
  object.traverse((part) => { if (part instanceof Mesh || part instanceof Points) vertices += part.geometry.getAttribute('position')?.count ?? 0; });
  return { object, box: new Box3().setFromObject(object), vertices };
}

async function read(name: string, content: Blob): Promise<Object3D> {
  switch (name.slice(name.lastIndexOf('.') + 1).toLowerCase()) {
    case 'ply': {
      const { PLYLoader } = await import('three/examples/jsm/loaders/PLYLoader.js');
      return solid(new PLYLoader().parse(await content.arrayBuffer()));
    }
    case 'obj': {
      const { OBJLoader } = await import('three/examples/jsm/loaders/OBJLoader.js');
      return new OBJLoader().parse(await content.text());
    }
    default: {
      const { GLTFLoader } = await import('three/examples/jsm/loaders/GLTFLoader.js');
      return (await new GLTFLoader().parseAsync(await content.arrayBuffer(), '')).scene;
    }
  }
}

function solid(geometry: BufferGeometry): Object3D {
  const vertexColors = geometry.hasAttribute('color');
  if (!geometry.index) return new Points(geometry, new PointsMaterial({ size: 0.004, vertexColors }));
  if (!geometry.hasAttribute('normal')) geometry.computeVertexNormals();
  return new Mesh(geometry, new MeshStandardMaterial({ color: vertexColors ? 0xffffff : 0xc9d4e4, roughness: 0.7, side: DoubleSide, vertexColors }));
}
