-- The ledger. Money is in nano-dollars (1e-9 USD), whole numbers, so that sums are exact; the views show USD.
-- Times are UTC. To read by hand: v_tasks, v_attempts, v_images, v_costs.
PRAGMA application_id = 0x62676c64;
PRAGMA user_version = 3;

CREATE TABLE job (
  name TEXT NOT NULL,
  project TEXT NOT NULL,
  manifest TEXT NOT NULL,         -- where it lies, from this folder
  created_at TEXT NOT NULL,
  enqueued TEXT NOT NULL DEFAULT '', -- the fingerprint of what was enqueued last, whole
  store TEXT NOT NULL DEFAULT '', -- the URL below which its images lie; empty: this folder
  mark TEXT NOT NULL              -- by which that place is known as this ledger's
) STRICT;

CREATE TABLE manifests (          -- every manifest that was used, as it was
  sha256 TEXT PRIMARY KEY,        -- of the two that follow
  text TEXT NOT NULL,
  overrides TEXT NOT NULL,        -- JSON: what was set beside it, by dotted key
  rehearsed INTEGER NOT NULL,     -- whether the sandbox played the providers
  used_at TEXT NOT NULL
) STRICT;

CREATE TABLE runs (               -- every time a process worked on this folder
  id INTEGER PRIMARY KEY,
  started_at TEXT NOT NULL,
  ended_at TEXT,
  version TEXT NOT NULL,
  pid INTEGER NOT NULL,
  host TEXT NOT NULL,
  exit_code INTEGER,
  reason TEXT NOT NULL DEFAULT '',
  waits TEXT NOT NULL DEFAULT '[]',  -- JSON: what it waits for while it works
  throttle TEXT NOT NULL DEFAULT '[]'  -- JSON: how wide and how fast each lane goes, and what changed that last
) STRICT;

CREATE TABLE quotas (             -- what providers allow, as it was learned; manifests say it otherwise
  scope TEXT NOT NULL,            -- a hash of host and account
  kind TEXT NOT NULL CHECK (kind IN ('images', 'requests', 'tokens')),
  lane TEXT NOT NULL,
  per_minute REAL NOT NULL,
  source TEXT NOT NULL CHECK (source IN ('headers', 'words', 'rate')),
  learned_at TEXT NOT NULL,
  PRIMARY KEY (scope, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE lanes (              -- each key or region by which a provider was asked
  name TEXT PRIMARY KEY,
  pool TEXT NOT NULL,             -- the provider
  account TEXT NOT NULL,          -- a hash of host and account: whose answers it can fetch
  blocked TEXT NOT NULL DEFAULT ''  -- why it buys no more, where others of its provider have gone on
) STRICT, WITHOUT ROWID;

CREATE TABLE prompts (
  id INTEGER PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE,
  text TEXT NOT NULL
) STRICT;

CREATE TABLE variants (           -- all of a request but its prompt and files
  id INTEGER PRIMARY KEY,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  operation TEXT NOT NULL,
  params TEXT NOT NULL,           -- JSON
  axes TEXT NOT NULL,             -- JSON: the parameters that the matrix varies
  UNIQUE (provider, model, operation, params, axes)
) STRICT;

CREATE TABLE tasks (
  seq INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  pool TEXT NOT NULL,             -- the provider, by any of its keys
  variant INTEGER NOT NULL REFERENCES variants,
  prompt INTEGER NOT NULL REFERENCES prompts,
  sample INTEGER NOT NULL,
  take INTEGER NOT NULL,
  path TEXT NOT NULL,             -- below images/, without index and extension
  input_tokens INTEGER NOT NULL DEFAULT 0,  -- what its images to edit are expected to take
  state TEXT NOT NULL DEFAULT 'todo' CHECK (state IN ('todo', 'doing', 'done', 'refused', 'failed', 'held')),
  wanted TEXT NOT NULL DEFAULT 'yes',  -- yes; dropped (by the manifest), waived (by hand), forgone (both); or the key
  tries INTEGER NOT NULL DEFAULT 0,    -- attempts used up
  replay INTEGER NOT NULL DEFAULT 0    -- 1: to be sent again only while the provider remembers its purchase's key
) STRICT;

-- A key is a hash of its prompt too, so that it is unique by itself. Beside the prompt it has its place in the index
-- near those that were added with it: by itself each would touch a page of its own.
CREATE UNIQUE INDEX tasks_key ON tasks (prompt, key);
CREATE INDEX tasks_todo ON tasks (pool, seq) WHERE state = 'todo' AND wanted = 'yes';

CREATE TABLE inputs (             -- images to edit and masks, as the plan found them
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('file', 'link', 'uploaded')),
  ref TEXT NOT NULL,              -- a path from the manifest's folder, a URL, the provider's id
  area TEXT NOT NULL,             -- of a mask: how it tells what to change; of an image: nothing
  sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  format TEXT NOT NULL,
  width INTEGER NOT NULL,
  height INTEGER NOT NULL,
  UNIQUE (kind, ref, area, sha256)
) STRICT;

CREATE TABLE task_inputs (        -- in their order, the mask last
  task INTEGER NOT NULL REFERENCES tasks,
  position INTEGER NOT NULL,
  input INTEGER NOT NULL REFERENCES inputs,
  PRIMARY KEY (task, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE names (              -- what the user calls a task's row; equal rows share their tasks
  task INTEGER NOT NULL REFERENCES tasks,
  id TEXT NOT NULL,
  PRIMARY KEY (task, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE batches (            -- what is handed to a provider's Batch API together
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,        -- ours, in the batch's metadata: it is found by that after a crash
  lane TEXT NOT NULL,
  payer TEXT NOT NULL,            -- a hash of provider and key: nobody else is shown it
  model TEXT NOT NULL,
  operation TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'drafted' CHECK (state IN ('drafted', 'creating', 'open', 'over')),
  tasks INTEGER NOT NULL,
  tokens INTEGER NOT NULL,        -- that go in, as they are reckoned
  drafted_at TEXT NOT NULL,
  doubts INTEGER NOT NULL DEFAULT 0,  -- how often it was nowhere to be seen, and created again: there may be others
  input TEXT NOT NULL DEFAULT '', -- the provider's names: of the file with its lines,
  handle TEXT NOT NULL DEFAULT '',    -- of the batch,
  output TEXT NOT NULL DEFAULT '',    -- of its answers,
  errors TEXT NOT NULL DEFAULT '',    -- and of what came of the others
  output_at INTEGER NOT NULL DEFAULT 0,  -- bytes of them that are settled
  errors_at INTEGER NOT NULL DEFAULT 0,
  created_at TEXT,
  looked_at TEXT,
  ended_at TEXT,
  expires_at TEXT,
  status TEXT NOT NULL DEFAULT '',    -- as the provider calls it
  completed INTEGER NOT NULL DEFAULT 0,  -- lines, as the provider counts them
  failed INTEGER NOT NULL DEFAULT 0,
  tokens_most INTEGER,            -- that may be enqueued for its model, as it was told when this was too many
  note TEXT NOT NULL DEFAULT ''   -- what a person should know
) STRICT;

CREATE INDEX batches_open ON batches (state) WHERE state <> 'over';

CREATE TABLE uploads (            -- files to edit that a provider has for the lines of batches
  payer TEXT NOT NULL,            -- a hash of provider and key
  name TEXT NOT NULL,             -- of the file there: a hash of what is in it
  id TEXT NOT NULL,               -- the provider's
  uploaded_at TEXT NOT NULL,
  PRIMARY KEY (payer, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,        -- the X-Client-Request-Id
  task INTEGER NOT NULL REFERENCES tasks,
  run INTEGER NOT NULL REFERENCES runs,
  purchase TEXT NOT NULL,         -- kept by every re-send after `unknown`, as long as the scope is the same
  scope TEXT NOT NULL DEFAULT '', -- to whom and under whose key its Idempotency-Key was sent; empty: without one
  lane TEXT NOT NULL,
  engine TEXT NOT NULL,
  batch INTEGER REFERENCES batches,  -- in which it was handed over; NULL: by itself
  handle TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL CHECK (
    state IN ('sending', 'accepted', 'paid', 'unusable', 'rejected', 'unsent', 'unknown')),
  images INTEGER NOT NULL,        -- how many it asks for; 0: a later sending of its purchase bears them
  cost_low INTEGER,               -- the bill lies between these; NULL: no price is known
  cost_high INTEGER,
  estimated INTEGER NOT NULL DEFAULT 0,
  allowance INTEGER NOT NULL DEFAULT 0,  -- what its re-send takes from duplicate_allowance
  sent_at TEXT NOT NULL,
  ended_at TEXT,
  status INTEGER NOT NULL DEFAULT 0,
  code TEXT NOT NULL DEFAULT '',
  error TEXT NOT NULL DEFAULT '',
  request_id TEXT NOT NULL DEFAULT '',   -- the provider's
  said TEXT NOT NULL DEFAULT '{}',       -- JSON: the values that took effect, as the provider named them
  input_text_tokens INTEGER,
  input_image_tokens INTEGER,
  cached_text_tokens INTEGER,
  cached_image_tokens INTEGER,
  output_image_tokens INTEGER,
  output_text_tokens INTEGER,
  total_tokens INTEGER,
  usage_note TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX attempts_task ON attempts (task);
CREATE INDEX attempts_open ON attempts (state) WHERE state IN ('sending', 'accepted');
CREATE INDEX attempts_batched ON attempts (batch) WHERE batch IS NOT NULL;

CREATE TABLE images (
  id INTEGER PRIMARY KEY,
  task INTEGER NOT NULL REFERENCES tasks,
  attempt INTEGER NOT NULL REFERENCES attempts,
  idx INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('saved', 'broken', 'partial')),
  path TEXT NOT NULL,             -- below images/
  sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  format TEXT NOT NULL,
  width INTEGER NOT NULL,
  height INTEGER NOT NULL,
  note TEXT NOT NULL,
  revised_prompt TEXT NOT NULL    -- the prompt as the provider rewrote it, where it says so
) STRICT;

CREATE UNIQUE INDEX images_saved ON images (task, idx) WHERE state = 'saved';
CREATE INDEX images_alike ON images (substr(sha256, 1, 12)) WHERE state = 'saved';  -- equal ones lie side by side

CREATE VIEW v_tasks AS
SELECT t.seq, t.key, t.state, t.wanted, v.provider, v.model, v.operation, v.axes, v.params, p.text AS prompt,
       (SELECT group_concat(n.id, ', ') FROM names n WHERE n.task = t.seq) AS ids, t.sample, t.take, t.path, t.tries,
       (SELECT group_concat(i.ref, ', ') FROM task_inputs ti JOIN inputs i ON i.id = ti.input
        WHERE ti.task = t.seq) AS inputs
FROM tasks t JOIN variants v ON v.id = t.variant JOIN prompts p ON p.id = t.prompt;

CREATE VIEW v_attempts AS
SELECT a.seq, a.id, t.key AS task, a.state, a.purchase, a.lane, a.engine, a.run, a.sent_at, a.ended_at,
       round((julianday(a.ended_at) - julianday(a.sent_at)) * 86400, 3) AS seconds,
       a.cost_low / 1e9 AS usd_low, a.cost_high / 1e9 AS usd_high, a.estimated,
       a.status, a.code, a.error, a.request_id, a.handle, a.said,
       a.input_text_tokens, a.input_image_tokens, a.output_image_tokens, a.output_text_tokens, a.total_tokens
FROM attempts a JOIN tasks t ON t.seq = a.task;

CREATE VIEW v_images AS
SELECT i.id, t.key AS task, i.idx, i.state, i.path, i.format, i.width, i.height, i.bytes, i.sha256,
       p.text AS prompt, (SELECT group_concat(n.id, ', ') FROM names n WHERE n.task = t.seq) AS ids, i.revised_prompt,
       v.provider, v.model, v.axes, a.id AS attempt
FROM images i JOIN tasks t ON t.seq = i.task JOIN attempts a ON a.seq = i.attempt
JOIN variants v ON v.id = t.variant JOIN prompts p ON p.id = t.prompt;

CREATE VIEW v_costs AS
SELECT v.provider, v.model, v.operation, v.axes, a.state, a.estimated, count(*) AS attempts,
       sum(a.cost_low) / 1e9 AS usd_low, sum(a.cost_high) / 1e9 AS usd_high,
       sum(a.output_image_tokens) AS output_tokens
FROM attempts a JOIN tasks t ON t.seq = a.task JOIN variants v ON v.id = t.variant
GROUP BY v.id, a.state, a.estimated;
