// A gateway's view and decision from docs/gateway-contract.md alone: a plain ES module, no dependencies.

const KINDS = new Map([['session.reinstate', 0], ['session.expire', 1], ['session.revoke', 2]]);
const UNKNOWN = 3;
const ORDERABLE = new Set(['admin_revoked', 'concurrency_limit', 'risk', 'idp_signal', 'parent_ended', 'lease_expired']);
const NO_REAUTH = {allowed: false};
const TARGET = new Set(['session_id', 'subject', 'role', 'tenant', 'classification', 'workload', 'client_ip', 'all']);
const UNITS = {ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000};
const STATUS = {view_stale: 503, session_missing: 400, login_required: 401, command_unknown: 401};

export const instant = (text) => {
  const millis = Date.parse(text);
  if (typeof text !== 'string' || Number.isNaN(millis)) throw new Error(`no instant: ${text}`);
  return millis;
};

const duration = (text) => {
  if (text === 'none') return Infinity;
  let total = 0;
  for (const [, number, unit] of String(text).matchAll(/(\d+)(ms|s|m|h|d)/g)) total += Number(number) * UNITS[unit];
  return total;
};

// Kafka's partitioner: murmur2 of the key's UTF-8 bytes, its sign dropped.
export function partitionFor(key, partitions) {
  const data = new TextEncoder().encode(key);
  const m = 0x5bd1e995;
  let h = 0x9747b28c ^ data.length;
  const whole = data.length & ~3;
  for (let i = 0; i < whole; i += 4) {
    let k = data[i] | data[i + 1] << 8 | data[i + 2] << 16 | data[i + 3] << 24;
    k = Math.imul(k, m);
    k ^= k >>> 24;
    h = Math.imul(h, m) ^ Math.imul(k, m);
  }
  const left = data.length & 3;
  if (left === 3) h ^= data[whole + 2] << 16;
  if (left >= 2) h ^= data[whole + 1] << 8;
  if (left >= 1) h = Math.imul(h ^ data[whole], m);
  h = Math.imul(h ^ h >>> 13, m);
  return ((h ^ h >>> 15) & 0x7fffffff) % partitions;
}

export class View {
  constructor(partitions) {
    this.sessions = new Map();
    this.standing = new Map();
    this.policy = null;
    this.control = -1;
    this.partitions = Array.from({length: partitions}, () => ({position: -1, logTime: -1, advanced: -Infinity, controlsTo: -1}));
  }

  // Records of one partition of session-commands, in order; `monotonic`: now, where nothing stands behind them.
  takeCommands(number, records, monotonic) {
    const partition = this.partitions[number];
    for (const {offset, key, value} of records) {
      if (offset <= partition.position) continue;
      partition.position = offset;
      if (key.startsWith('~')) {
        if (key === `~watermark/${number}` && value !== null) this.mark(partition, value, monotonic);
      } else if (value === null) {
        this.sessions.delete(key);
      } else {
        const command = readCommand(value);
        const known = this.sessions.get(key);
        if (command !== null && (known === undefined || outranks(command, known))) this.sessions.set(key, command);
      }
    }
  }

  takeControls(records) {
    for (const {offset, timestamp, key, value} of records) {
      if (offset <= this.control) continue;
      this.control = offset;
      if (value === null) {
        this.standing.delete(key);
        continue;
      }
      const control = readControl(value, offset, instant(timestamp));
      if (control === null) continue;
      if (control.type === 'control.policy') this.policy = compile(control.policy_text);
      else if (control.type === 'control.unlock') this.standing.delete(control.id);
      else this.standing.set(control.id, control);
    }
  }

  mark(partition, value, monotonic) {
    const logTime = instant(value.log_time);
    partition.controlsTo = Math.max(partition.controlsTo, value.controls_to);
    if (logTime > partition.logTime) {
      partition.logTime = logTime;
      partition.advanced = Math.max(partition.advanced, monotonic);
    }
  }

  of(sessionId) {
    return sessionId === undefined ? this.partitions : [this.partitions[partitionFor(sessionId, this.partitions.length)]];
  }
}

function readCommand(value) {
  let said = value;
  if (typeof value === 'string') {
    try {
      said = JSON.parse(value);
    } catch {
      said = {};
    }
  }
  if (said.type === 'session.warn') return null;
  const kind = KINDS.get(said.type);
  try {
    if (kind === undefined || !Number.isInteger(said.epoch) || said.epoch < 0 || !said.reason) throw new Error('not understood');
    return {
      epoch: said.epoch, kind, reason: said.reason, rule: said.rule ?? null, reauth: said.reauth ?? NO_REAUTH,
      effectiveAt: instant(said.effective_at), cutoff: instant(said.cutoff),
    };
  } catch {
    const epoch = Number.isInteger(said.epoch) && said.epoch >= 0 ? said.epoch : Infinity;
    return {epoch, kind: UNKNOWN, reason: 'command_unknown', rule: null, reauth: NO_REAUTH, effectiveAt: null, cutoff: -1};
  }
}

function outranks(one, other) {
  const rank = (command) => [command.epoch, command.kind, command.reauth.allowed ? 0 : 1, command.cutoff];
  const [a, b] = [rank(one), rank(other)];
  const place = a.findIndex((number, n) => number !== b[n]);
  return place >= 0 && a[place] > b[place];
}

function readControl(value, offset, appended) {
  const target = value.target ?? {};
  if (!value.id || !value.reason || !value.by || Object.keys(target).some((name) => !TARGET.has(name))) return null;
  if (['control.lock', 'control.revoke'].includes(value.type) && Object.keys(target).length === 0) return null;
  const before = value.before === undefined ? appended : instant(value.before);
  const expires = value.expires === undefined ? Infinity
    : typeof value.expires === 'number' ? value.expires * 1000 : instant(value.expires);
  return {...value, target, offset, appended, expires, cutoff: Math.min(before, appended)};
}

// A policy that is JSON; on the topic it is YAML, and may name presets.
function compile(text) {
  const said = JSON.parse(text);
  const defaults = {name: 'defaults', when: {}, absolute: duration(said.defaults?.absolute ?? '12h')};
  const entry = (one) => ({...one, when: one.when ?? {}, absolute: one.absolute === undefined ? null : duration(one.absolute)});
  return {
    classifications: said.classifications ?? ['public', 'internal', 'confidential', 'restricted'],
    lateness: duration(said.timing?.lateness ?? '2s'), lifetime: duration(said.timing?.credential_lifetime ?? '24h'),
    rules: [defaults, ...(said.rules ?? []).filter((rule) => rule.enforce !== 'observe').map(entry)].filter((one) => one.absolute !== null),
    exceptions: (said.exceptions ?? []).map(entry).filter((one) => one.absolute !== null),
  };
}

const list = (value) => (Array.isArray(value) ? value : [value]);
const glob = (pattern) => new RegExp(`^${pattern.replace(/[.+^${}()|\\]/g, '\\$&').replace(/\*/g, '[^]*').replace(/\?/g, '[^]')}$`, 'u');

// true, false, or undefined where the fact is not known.
function holds(policy, name, wanted, fact) {
  if (fact === undefined) return undefined;
  if (name === 'classification') {
    const place = policy.classifications.indexOf(fact);
    if (place < 0) return undefined;
    return wanted.at_least === undefined ? list(wanted).includes(fact) : place >= policy.classifications.indexOf(wanted.at_least);
  }
  if (name === 'roles') return fact.some((role) => list(wanted).includes(role));
  if (name === 'route' || name === 'subject') return list(wanted).some((pattern) => glob(pattern).test(fact));
  return list(wanted).includes(fact);
}

function longestAbsolute(policy, facts, now) {
  const all = (entry, unknown) =>
    Object.entries(entry.when).every(([name, wanted]) => holds(policy, name, wanted, facts[name]) ?? unknown);
  let limit = policy.rules.filter((rule) => all(rule, false)).reduce((a, b) => (b.absolute < a.absolute ? b : a));
  for (const exception of policy.exceptions) {
    if (now < Date.parse(exception.until) && all(exception, true) && exception.absolute > limit.absolute) limit = exception;
  }
  return limit;
}

function meets(target, facts) {
  return Object.entries(target).every(([name, wanted]) =>
    name === 'all' || (name === 'role' ? (facts.roles ?? []).includes(wanted) : facts[name] === wanted));
}

// facts: as in the vectors. now: ms since 1970. monotonic: ms of the clock that never steps.
export function check(view, facts, now, monotonic, settings = {}) {
  const {max_view_age: maxAge = 60_000, retry_after: retryAfter = 5, without_session: without = 'challenge'} = settings;
  const policy = view.policy;
  const whole = typeof facts.auth_time === 'number';
  const start = facts.auth_time === undefined ? null : whole ? facts.auth_time * 1000 : instant(facts.auth_time);
  const end = start === null ? null : whole ? start + 999 : start;
  const believed = start !== null && start <= now + (policy?.lateness ?? 2000);
  const partitions = view.of(facts.session_id);
  const logTime = Math.min(...partitions.map((one) => one.logTime));
  const met = [...view.standing.values()].filter((control) => meets(control.target, facts)).sort((a, b) => a.offset - b.offset);

  const lock = met.find((control) => control.type === 'control.lock' && logTime <= control.expires);
  if (lock) return refuse('locked', NO_REAUTH, {effective_at: lock.appended, control_id: lock.id});
  const lifetime = policy?.lifetime ?? 86_400_000;
  const revocations = met.filter((control) =>
    control.type === 'control.revoke' && believed && start < control.cutoff && logTime <= control.appended + lifetime);
  if (revocations.length > 0) {
    const latest = revocations.reduce((a, b) => (b.cutoff >= a.cutoff ? b : a));
    const reason = ORDERABLE.has(latest.reason) ? latest.reason : 'admin_revoked';
    return refuse(reason, NO_REAUTH, {effective_at: latest.cutoff, control_id: latest.id});
  }

  const known = view.sessions.get(facts.session_id);
  if (known !== undefined) {
    const accepted = known.reauth.acr_values ?? [];
    const passes = known.kind === 0
      ? end === null || end > known.cutoff
      : known.reauth.allowed && believed && end > known.cutoff && (accepted.length === 0 || accepted.includes(facts.acr));
    if (!passes) return refuse(known.reason, known.reauth, {effective_at: known.effectiveAt, rule: known.rule});
  }

  if (policy !== null && end !== null) {
    const limit = longestAbsolute(policy, facts, now);
    if (now >= end + limit.absolute) {
      return refuse('absolute_timeout', {allowed: true}, {effective_at: end + limit.absolute, rule: limit.name});
    }
  }

  if (facts.session_id === undefined && without !== 'admit') {
    return without === 'refuse' ? refuse('session_missing', NO_REAUTH) : refuse('login_required', {allowed: true});
  }
  const stale = partitions.some((one) => one.controlsTo > view.control || monotonic - one.advanced > maxAge);
  if (!stale) return {outcome: 'admit', reason: '', status: 200, stale: false};
  const lower = policy === null ? [] : policy.classifications.slice(0, -1);
  const posture = facts.posture ?? (lower.includes(facts.classification) ? 'best_effort' : 'strict');
  if (posture === 'strict') return refuse('view_stale', NO_REAUTH, {stale: true, retry_after: retryAfter});
  return {outcome: 'admit', reason: '', status: 200, stale: true};
}

function refuse(reason, reauth, more = {}) {
  const status = STATUS[reason] ?? (reason === 'locked' && !reauth.allowed ? 403 : 401);
  return {outcome: 'refuse', reason, reauth, status, stale: false, ...more};
}
