"""Agents as files that run no code: a folder with ``agent.json`` and ``weights.safetensors``.

:mod:`~rlspo.common.exports.values` and :mod:`~rlspo.common.exports.described_spaces` say which values a file may hold,
:mod:`~rlspo.common.exports.folder` writes and reads the two files, :mod:`~rlspo.common.exports.agents` makes them of an agent
and an agent of them, and :mod:`~rlspo.common.exports.lookup` finds agents by name.
"""
