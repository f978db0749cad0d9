// The game: it alone knows where everybody is. Players say which keys they hold, `{"type":"playerAction","keys":["left"],
// "name":"ann"}`; thirty times a second everybody in the room is told the state of the field. Who reaches the coin first
// has it. A room whose name is `game`, or begins with `game.`, is a field of its own.
import { connect, isMain } from "./connect.mjs";

const HERTZ = 30;
const FIELD = { width: 960, height: 540 };
const RADIUS = 14;
const SPEED = 300; // a second
const MAX_PLAYERS = 64;
const STEPS = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] };

const isGame = (room) => room === "game" || room?.startsWith("game.");
const within = (value, size) => Math.min(size - RADIUS, Math.max(RADIUS, value));
const somewhere = () => ({
  x: Math.round(within(Math.random() * FIELD.width, FIELD.width)),
  y: Math.round(within(Math.random() * FIELD.height, FIELD.height)),
});

/** Believes nothing: what a player sends may be anything. */
function steer(player, { keys, name }) {
  player.keys = Array.isArray(keys) ? Object.keys(STEPS).filter((key) => keys.includes(key)) : [];
  player.name = typeof name === "string" ? name.trim().slice(0, 16) : "";
}

function step(field) {
  for (const player of field.players.values()) {
    const [dx, dy] = player.keys.reduce(([x, y], key) => [x + STEPS[key][0], y + STEPS[key][1]], [0, 0]);
    const distance = SPEED / HERTZ / (Math.hypot(dx, dy) || 1);
    player.x = within(player.x + dx * distance, FIELD.width);
    player.y = within(player.y + dy * distance, FIELD.height);
    if (Math.hypot(player.x - field.coin.x, player.y - field.coin.y) < 2 * RADIUS) {
      player.score++;
      field.coin = somewhere();
    }
  }
}

const rounded = (number) => Math.round(number * 10) / 10;

function stateOf(room, { players, coin, tick }) {
  const list = [...players].map(([id, { x, y, name, score }]) => ({ id, x: rounded(x), y: rounded(y), name, score }));
  return { type: "state", room, at: Math.round((tick * 1000) / HERTZ), field: FIELD, coin, players: list };
}

export function game(backend) {
  const fields = new Map(); // room → { players: clientId → player, coin, tick }

  backend.on("playerAction", (action) => {
    const { room, clientId } = action;
    if (!isGame(room)) return;
    const field = fields.get(room) ?? { players: new Map(), coin: somewhere(), tick: 0 };
    fields.set(room, field);
    if (!field.players.has(clientId)) {
      if (field.players.size >= MAX_PLAYERS) return;
      field.players.set(clientId, { ...somewhere(), score: 0 });
    }
    steer(field.players.get(clientId), action);
  });
  backend.on("client_left", ({ room, clientId }) => {
    const field = fields.get(room);
    if (field?.players.delete(clientId) && field.players.size === 0) fields.delete(room);
  });
  // Nobody knows who has left meanwhile. Who is still there says so within a second.
  backend.on("connected", () => fields.clear());

  setInterval(() => {
    for (const [room, field] of fields) {
      field.tick++;
      step(field);
      if (!backend.busy) backend.send(stateOf(room, field));
    }
  }, 1000 / HERTZ);
}

if (isMain(import.meta.url)) game(connect());
