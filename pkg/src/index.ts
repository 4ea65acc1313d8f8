/**
 * Private peer-to-peer clusters for people, devices and robots that share a place.
 *
 * ```js
 * import { Node, json } from 'peerage';
 * const node = await Node.start();
 * const domain = await node.join(location.href, { profile: { name: 'Ada' } });
 * const chat = domain.channel('chat', { codec: json() });
 * chat.on((text, { from }) => console.log(from, text));
 * await chat.send('hello');
 * ```
 *
 * @packageDocumentation
 */
export { Channel, type ChannelOptions, type Message, type Meta, type SendOptions } from './channel.js';
export { Body, DomainData, type Change, type Entry, type GetOptions, type PutOptions, type Quota } from './data.js';
export type { Obstacle, Report, Transport, Way } from './diagnose.js';
export { Domain, Invite, qr, type DomainEvents, type Invitation, type InviteOptions, type Right } from './domain.js';
export { PeerageError } from './error.js';
export { init, type InitOptions } from './init.js';
export { JobHandle, type JobEvent, type JobResult, type TaskSpec } from './job.js';
export { Node, type DomainOptions, type JoinOptions, type NodeEvents, type StartOptions, type StoredDomain } from './node.js';
export { Running } from './running.js';
export type { Content } from './source.js';
export { SharedState, type Json, type StateEntry } from './state.js';
export { Job, Task, type RequestOptions, type ServeOptions, type TaskEvent, type TaskHandler } from './task.js';
export { json, type Attribute, type Capability, type Codec, type Comparison, type Link, type Participant, type Query, type Stats, type Where } from './types.js';
