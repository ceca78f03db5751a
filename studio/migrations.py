"""The schema, as append-only named steps. Each step commits together with the record that it ran.

The names of tables, views and columns are a public interface: steps may add, never rename or drop.
sqlite-utils' ``Migrations`` keeps the record in ``_sqlite_migrations``.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("intermt-studio")

TABLES = """
CREATE TABLE trees (
  id TEXT PRIMARY KEY, title TEXT NOT NULL DEFAULT '', tags TEXT NOT NULL DEFAULT '[]',
  source TEXT NOT NULL DEFAULT '', created_at TEXT NOT NULL
);
CREATE TABLE nodes (
  id TEXT PRIMARY KEY, tree_id TEXT NOT NULL REFERENCES trees(id), parent_id TEXT REFERENCES nodes(id),
  ordinal INTEGER NOT NULL, role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
  backend TEXT, model TEXT, params TEXT NOT NULL DEFAULT '{}',
  status TEXT NOT NULL DEFAULT 'done' CHECK (status IN ('done', 'streaming', 'stopped', 'failed')), error TEXT,
  prompt_tokens INTEGER, completion_tokens INTEGER, first_token_ms REAL, latency_ms REAL,
  starred INTEGER NOT NULL DEFAULT 0, pruned_at TEXT, created_at TEXT NOT NULL,
  source_id TEXT
);
CREATE INDEX nodes_tree ON nodes(tree_id);
CREATE INDEX nodes_parent ON nodes(parent_id);
CREATE INDEX nodes_streaming ON nodes(status) WHERE status = 'streaming';
CREATE UNIQUE INDEX nodes_source ON nodes(source_id) WHERE source_id IS NOT NULL;
CREATE TABLE images (
  sha256 TEXT PRIMARY KEY, mime TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, bytes INTEGER NOT NULL,
  origin TEXT NOT NULL CHECK (origin IN ('upload', 'generate', 'edit', 'retrieve', 'import')),
  tool TEXT, params TEXT NOT NULL DEFAULT '{}', prompt TEXT, source_sha256 TEXT REFERENCES images(sha256),
  source_url TEXT, licence TEXT, created_at TEXT NOT NULL
);
CREATE TABLE parts (
  id INTEGER PRIMARY KEY, node_id TEXT NOT NULL REFERENCES nodes(id), ordinal INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('text', 'image')), text TEXT NOT NULL DEFAULT '',
  image_sha256 TEXT REFERENCES images(sha256), caption TEXT NOT NULL DEFAULT '',
  UNIQUE (node_id, ordinal)
);
CREATE INDEX parts_image ON parts(image_sha256) WHERE image_sha256 IS NOT NULL;
CREATE TABLE scores (
  id TEXT PRIMARY KEY, node_id TEXT NOT NULL REFERENCES nodes(id), dimension TEXT NOT NULL, value INTEGER NOT NULL,
  annotator TEXT NOT NULL, round INTEGER NOT NULL DEFAULT 1, created_at TEXT NOT NULL, superseded_at TEXT
);
CREATE UNIQUE INDEX scores_current ON scores(node_id, dimension, annotator, round) WHERE superseded_at IS NULL;
CREATE INDEX scores_node ON scores(node_id);
CREATE TABLE comparisons (
  id TEXT PRIMARY KEY, level TEXT NOT NULL CHECK (level IN ('local', 'global')), dimension TEXT NOT NULL,
  left_node TEXT NOT NULL REFERENCES nodes(id), right_node TEXT NOT NULL REFERENCES nodes(id),
  outcome TEXT NOT NULL CHECK (outcome IN ('left', 'right', 'tie')), annotator TEXT NOT NULL,
  round INTEGER NOT NULL DEFAULT 1, shown_left TEXT, seconds REAL, created_at TEXT NOT NULL, superseded_at TEXT
);
CREATE INDEX comparisons_left ON comparisons(left_node);
CREATE INDEX comparisons_right ON comparisons(right_node);
CREATE TABLE feedback (
  id TEXT PRIMARY KEY, node_id TEXT NOT NULL REFERENCES nodes(id),
  level TEXT NOT NULL CHECK (level IN ('local', 'global')),
  kind TEXT NOT NULL CHECK (kind IN ('rationale', 'critique', 'refinement')), dimension TEXT, text TEXT NOT NULL,
  annotator TEXT NOT NULL, round INTEGER NOT NULL DEFAULT 1, created_at TEXT NOT NULL, superseded_at TEXT
);
CREATE INDEX feedback_node ON feedback(node_id);
CREATE TABLE crucial_steps (
  leaf_id TEXT NOT NULL REFERENCES nodes(id), node_id TEXT NOT NULL REFERENCES nodes(id), annotator TEXT NOT NULL,
  round INTEGER NOT NULL DEFAULT 1, created_at TEXT NOT NULL, superseded_at TEXT
);
CREATE TABLE judges (
  name TEXT PRIMARY KEY, base TEXT NOT NULL, config TEXT NOT NULL DEFAULT '{}', data_hash TEXT,
  metrics TEXT NOT NULL DEFAULT '{}', path TEXT, created_at TEXT NOT NULL
);
CREATE TABLE judge_scores (
  judge TEXT NOT NULL REFERENCES judges(name), node_id TEXT NOT NULL REFERENCES nodes(id), dimension TEXT NOT NULL,
  value REAL NOT NULL, spread REAL, created_at TEXT NOT NULL, PRIMARY KEY (judge, node_id, dimension)
);
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, status TEXT NOT NULL, progress REAL NOT NULL DEFAULT 0, message TEXT,
  pid INTEGER, payload TEXT NOT NULL DEFAULT '{}', error TEXT, started_at TEXT, finished_at TEXT
);
"""

VIEWS = """
CREATE VIEW current_scores AS SELECT * FROM scores WHERE superseded_at IS NULL;
CREATE VIEW current_comparisons AS SELECT * FROM comparisons WHERE superseded_at IS NULL;
CREATE VIEW current_feedback AS SELECT * FROM feedback WHERE superseded_at IS NULL;
CREATE VIEW turns AS
  SELECT r.tree_id, q.id AS question_id, r.id AS reply_id, r.model, r.status, r.created_at
  FROM nodes r JOIN nodes q ON q.id = r.parent_id WHERE r.role = 'assistant';
CREATE VIEW dialogues AS
  WITH RECURSIVE up(leaf_id, tree_id, at, turns) AS (
    SELECT id, tree_id, parent_id, 1 FROM nodes leaf
    WHERE role = 'assistant' AND NOT EXISTS (SELECT 1 FROM nodes child WHERE child.parent_id = leaf.id)
    UNION ALL
    SELECT leaf_id, up.tree_id, n.parent_id, turns + (n.role = 'assistant') FROM up JOIN nodes n ON n.id = up.at
  )
  SELECT tree_id, leaf_id, max(turns) AS turns FROM up GROUP BY leaf_id;
CREATE VIEW preference_pairs AS
  SELECT level, dimension, CASE outcome WHEN 'right' THEN right_node ELSE left_node END AS chosen,
    CASE outcome WHEN 'right' THEN left_node ELSE right_node END AS rejected,
    outcome = 'tie' AS tie, NULL AS margin, 'comparison' AS source, annotator, round, created_at
  FROM current_comparisons
  UNION ALL
  SELECT 'local', a.dimension, a.node_id, b.node_id, 0, a.value - b.value, 'score', a.annotator, a.round,
    max(a.created_at, b.created_at)
  FROM current_scores a JOIN current_scores b
    ON a.dimension = b.dimension AND a.annotator = b.annotator AND a.round = b.round AND a.value > b.value
  JOIN nodes na ON na.id = a.node_id JOIN nodes nb ON nb.id = b.node_id AND nb.parent_id = na.parent_id
  WHERE na.role = 'assistant' AND nb.role = 'assistant' AND a.dimension NOT LIKE 'G_';
"""


@migrations()
def m001_tables(db: Database) -> None:
    """The tables of design section 3; ``nodes.source_id`` makes importing the same file twice harmless."""
    for statement in TABLES.split(";\n"):
        db.execute(statement) if statement.strip() else None


@migrations()
def m002_views(db: Database) -> None:
    """Views that scripts and Datasette rely on."""
    for statement in VIEWS.split(";\n"):
        db.execute(statement) if statement.strip() else None


@migrations()
def m003_search(db: Database) -> None:
    """Full-text search over every part of every branch; triggers keep it true whoever writes."""
    db["parts"].enable_fts(["text", "caption"], create_triggers=True, tokenize="unicode61 remove_diacritics 2")  # type: ignore[union-attr]


@migrations()
def m004_queues(db: Database) -> None:
    """What there is to judge, in order: a queue is planned once, and its next item is one look at an index."""
    db.execute(
        "CREATE TABLE queues (id TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('rate', 'local', 'global')), rule TEXT NOT NULL, "
        "filters TEXT NOT NULL DEFAULT '{}', seed INTEGER NOT NULL, annotator TEXT NOT NULL, round INTEGER NOT NULL DEFAULT 1, "
        "goal INTEGER NOT NULL, total INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0, created_at TEXT NOT NULL, closed_at TEXT)"
    )
    db.execute(
        "CREATE TABLE queue_items (id TEXT PRIMARY KEY, queue_id TEXT NOT NULL REFERENCES queues(id), ordinal INTEGER NOT NULL, "
        "nodes TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done')), seconds REAL, done_at TEXT)"
    )
    db.execute("CREATE INDEX queue_next ON queue_items(queue_id, state, ordinal)")
    db.execute("CREATE INDEX queue_latest ON queue_items(queue_id, done_at)")


@migrations()
def m005_places(db: Database) -> None:
    """Where in a reply feedback points (JSON as in ``studio/actions/spans.py``; none: all of it), and why a step is crucial."""
    db.execute("ALTER TABLE feedback ADD COLUMN span TEXT")
    db.execute("ALTER TABLE crucial_steps ADD COLUMN reason TEXT")
    db.execute("CREATE INDEX crucial_leaf ON crucial_steps(leaf_id)")
    db.execute("CREATE INDEX crucial_node ON crucial_steps(node_id)")


@migrations()
def m006_second_pass(db: Database) -> None:
    """A second pass: when an item's first scores were shown, and what became of it (agreed, corrected, returned)."""
    db.execute("ALTER TABLE queue_items ADD COLUMN revealed_at TEXT")
    db.execute("ALTER TABLE queue_items ADD COLUMN verdict TEXT CHECK (verdict IN ('agreed', 'corrected', 'returned'))")


@migrations()
def m007_proposals(db: Database) -> None:
    """Pictures that a message asks for: what was proposed for a token, and what became of it. A new proposal supersedes the old."""
    db.execute(
        "CREATE TABLE proposals (id TEXT PRIMARY KEY, node_id TEXT NOT NULL REFERENCES nodes(id), place INTEGER NOT NULL, "
        "caption TEXT NOT NULL, tool TEXT NOT NULL CHECK (tool IN ('generate', 'edit', 'retrieve', 'attach')), "
        "decided_by TEXT NOT NULL, why TEXT NOT NULL DEFAULT '', params TEXT NOT NULL DEFAULT '{}', "
        "state TEXT NOT NULL CHECK (state IN ('proposed', 'running', 'done', 'refused', 'failed')), note TEXT NOT NULL DEFAULT '', "
        "image_sha256 TEXT REFERENCES images(sha256), created_at TEXT NOT NULL, changed_at TEXT NOT NULL, superseded_at TEXT)"
    )
    db.execute("CREATE UNIQUE INDEX proposals_current ON proposals(node_id, place) WHERE superseded_at IS NULL")


@migrations()
def m008_waiting(db: Database) -> None:
    """Questions that wait for a reply to end: their parts and how to ask them, as JSON, and what became of them."""
    db.execute(
        "CREATE TABLE waiting (id TEXT PRIMARY KEY, tree_id TEXT NOT NULL REFERENCES trees(id), reply_id TEXT NOT NULL REFERENCES nodes(id), "
        "parts TEXT NOT NULL, how TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('waiting', 'asking', 'held', 'asked', 'taken')), "
        "note TEXT NOT NULL DEFAULT '', replies TEXT NOT NULL DEFAULT '[]', created_at TEXT NOT NULL, changed_at TEXT NOT NULL)"
    )
    db.execute("CREATE INDEX waiting_reply ON waiting(reply_id)")
    db.execute("CREATE INDEX waiting_open ON waiting(state) WHERE state IN ('waiting', 'asking', 'held')")


@migrations()
def m009_dimensions(db: Database) -> None:
    """Which dimensions are about whole dialogues, own ones too: siblings whose dialogues were scored are no local pairs."""
    db.execute(
        "CREATE TABLE dimensions (code TEXT PRIMARY KEY, level TEXT NOT NULL CHECK (level IN ('local', 'global')))"
    )
    db.execute(
        "INSERT INTO dimensions VALUES ('G1', 'global'), ('G2', 'global'), ('G3', 'global'), ('G4', 'global'), ('G5', 'global')"
    )
    pairs = VIEWS[VIEWS.index("CREATE VIEW preference_pairs") :].rstrip().rstrip(";")
    db.execute("DROP VIEW preference_pairs")
    db.execute(pairs.replace("NOT LIKE 'G_'", "NOT IN (SELECT code FROM dimensions WHERE level = 'global')"))


@migrations()
def m010_measurements(db: Database) -> None:
    """A judge's score as a measurement, and whose judge it is.

    ``logit``: the judge's scalar; ``heads``: one value a bootstrapped head (a JSON list); ``stale_at``: what it was read
    from has changed since. A judge is its name and the SHA-256 of its weights; ``made_by``: who trained it.
    """
    db.execute("ALTER TABLE judge_scores ADD COLUMN logit REAL")
    db.execute("ALTER TABLE judge_scores ADD COLUMN heads TEXT")
    db.execute("ALTER TABLE judge_scores ADD COLUMN stale_at TEXT")
    db.execute("ALTER TABLE judges ADD COLUMN weights_hash TEXT")
    db.execute("ALTER TABLE judges ADD COLUMN made_by TEXT")
