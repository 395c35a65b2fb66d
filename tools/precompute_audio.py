"""Precompute the embeddings of a frozen audio encoder; see transavs/tools/precompute_audio.py."""

from transavs.tools.precompute_audio import main

if __name__ == "__main__":
    raise SystemExit(main())
