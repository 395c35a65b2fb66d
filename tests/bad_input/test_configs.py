"""Configurations and grids that cannot be used, through every command that reads them."""

from mistakes import Case, cases, check, write

# Ten short lines that stand for 2^40 values.
BOMB = "x0: &x0 {a: 1}\n" + "".join(
    f"x{i}: &x{i} {{a: *x{i - 1}, b: *x{i - 1}}}\n" for i in range(1, 41)
)
CONVERT = "--config-file {}/mine.yaml --weights {}/w.pth --output {}/out.safetensors"
EVALUATE = "--config-file {}/mine.yaml --weights {}/w.pth --output {}/out.json"
VISUALIZE = "--config-file {}/mine.yaml --ground-truth-only --output {}/out"
PRECOMPUTE = "--config-file {}/mine.yaml --output {}/out.safetensors"
TRAIN = "--config-file {}/mine.yaml OUTPUT_DIR {}/out"
BENCHMARK = "--config-file {}/mine.yaml --output {}/out.json --parts size"
DEMO = "--config-file {}/mine.yaml --input {}/mine.yaml --output {}/out.mp4"
GRID = "{}/grid.yaml --output {}/out"
GOOD_ROWS = "config: configs/s4_R50.yaml\nseeds: [0]\ntest: [demo_s4_test]\nrows: [{name: a}]\n"


def config(name: str, tool: str, words: str, text: str | bytes, told: str) -> Case:
    return Case(name, tool, words, "mine.yaml", told, write("mine.yaml", text))


def grid(name: str, text: str, told: str) -> Case:
    return Case(name, "ablation", GRID, "grid.yaml", told, write("grid.yaml", text))


def recursive(folder):
    write("base.yaml", "_BASE_: mine.yaml\n")(folder)
    write("mine.yaml", "_BASE_: base.yaml\n")(folder)


@cases(
    Case("no file", "eval_robustness", EVALUATE, "mine.yaml", "no config file .*s4_R101.yaml"),
    Case(
        "a folder", "visualize", VISUALIZE, "mine.yaml", "no config file",
        lambda folder: (folder / "mine.yaml").mkdir(),
    ),
    config("not UTF-8", "eval_robustness", EVALUATE, b"SEED: \xff\n", "no plain YAML.*utf-8"),
    config("a list", "convert_checkpoint", CONVERT, "[1]", "expected YAML of keys and values"),
    config("empty", "precompute_audio", PRECOMPUTE, "", "expected YAML of keys and values"),
    config("half of it", "visualize", VISUALIZE, "MODEL: {", "no plain YAML.*line 1"),
    config(
        "a call of Python", "train_net", TRAIN,
        "SEED: !!python/object/apply:os.getcwd []\n", "no plain YAML.*python/object",
    ),
    config("another tag's value", "benchmark", BENCHMARK, "SEED: !!bool 7\n", "fit its tag"),
    config("unknown key", "benchmark", BENCHMARK, "SEEDS: 1\nVERSION: 2\n", "SEEDS"),
    config("wrong type", "benchmark", BENCHMARK, "SEED: [1]\nVERSION: 2\n", "SEED"),
    config("a number as a key", "demo", DEMO, "1: 2\n", "words as keys.*quotes"),
    config("key given twice", "train_net", TRAIN, "SEED: 1\nSEED: 2\n", "'SEED' is given twice"),
    config("no base", "convert_checkpoint", CONVERT, "_BASE_: no.yaml\n", "no.yaml: mend"),
    config("a base that is none", "visualize", VISUALIZE, "_BASE_: 3\n", "name of a file, got 3"),
    config("a remote base", "visualize", VISUALIZE, "_BASE_: https://x/y\n", "name of a file"),
    Case("its own base", "eval_robustness", EVALUATE, "mine.yaml", "take it out", recursive),
    config("a bomb of names", "train_net", TRAIN, BOMB, "more than 100000 values"),
    config("nested deep", "precompute_audio", PRECOMPUTE, "a: " + "[" * 999, "no plain YAML"),
    config("a list in itself", "train_net", TRAIN, "SEED: &a [*a]\n", "holds itself"),
    config(
        "unknown network", "convert_checkpoint", CONVERT,
        "MODEL: {META_ARCHITECTURE: Foo}\nVERSION: 2\n", "must be one of .*TransAVS.*got 'Foo'",
    ),
    config(
        "unknown encoder", "precompute_audio", PRECOMPUTE,
        "MODEL: {AUDIO: {NAME: Ear}}\nVERSION: 2\n", "must be one of .*VGGish.*got 'Ear'",
    ),
    config("no batch", "train_net", TRAIN, "TEST: {IMS_PER_BATCH: 0}\nVERSION: 2", "at least 1"),
    config("an old version", "train_net", TRAIN, "VERSION: [1]\n", "expected YAML|VERSION"),
    Case(
        "half an override", "eval_robustness",
        "--config-file s4_R50.yaml --output {}/out.json SEED", "s4_R50.yaml", "in pairs .* SEED",
    ),
    grid("half of it", "rows: [", "no plain YAML"),
    grid("a list", "[1]", "expected the fields"),
    grid("no rows", GOOD_ROWS.replace("[{name: a}]", "[]"), "rows: expected a list of rows"),
    grid("unknown data", GOOD_ROWS.replace("demo_s4_test", "demo_s5_test"), "demo_s4_test.*s5"),
    grid("unknown config", GOOD_ROWS.replace("s4_R50", "s9"), "row 'a': no config file"),
    grid("seeds of words", GOOD_ROWS.replace("[0]", "[zero]"), "seeds"),
    grid("a name that leads out", GOOD_ROWS.replace("name: a", "name: ../a"), "row '../a': name"),
    grid("key given twice", GOOD_ROWS + "seeds: [1]\n", "'seeds' is given twice"),
    grid("a bomb of names", BOMB, "more than 100000 values"),
    Case("no file", "ablation", GRID, "grid.yaml", "no grid file .*demo_ms3"),
)  # fmt: skip
def test_configurations(case, tmp_path, capsys):
    check(case, tmp_path, capsys)
