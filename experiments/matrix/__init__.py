"""Who can read what: every system under every countermeasure, as each observer sees it.

Judged from run folders alone (docs/matrix.md):

    run folder of a cell ─▶ secrets, decoys ─▶ sightings in captures and copies ─▶ rows ─▶ page
"""
