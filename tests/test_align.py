"""Pose of scans: self-made shapes with known poses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from r3dad.align import Frame, Nearest, fit_affine, fit_quadratic, fit_rigid
from r3dad.align.cloud import rotation_grid, rotation_vector_matrix, thin
from r3dad.align.frame import MISFIT
from r3dad.errors import InputError
from r3dad.simulate.parts import part
from r3dad.simulate.scan import scan as simulate


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def box(rng, n, low, high):
    """Uniform points on the surface of a box, and the normals."""
    low, high = np.array(low, float), np.array(high, float)
    size = high - low
    area = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])
    axis = rng.choice(3, n, p=area / area.sum())
    p = low + rng.random((n, 3)) * size
    side = rng.integers(0, 2, n)
    p[np.arange(n), axis] = np.where(side, high[axis], low[axis])
    normal = np.zeros((n, 3))
    normal[np.arange(n), axis] = 2 * side - 1
    return p, normal


def l_bracket(rng, n):
    """Surface of an L of two plates (60 x 40 x 6 and 6 x 40 x 45 mm) with a hole of radius 8 mm through the base."""
    a, na = box(rng, 2 * n, (0, 0, 0), (60, 40, 6))
    b, nb = box(rng, 2 * n, (0, 0, 6), (6, 40, 45))
    a_free = (np.hypot(a[:, 0] - 40, a[:, 1] - 22) > 8) & ~((a[:, 0] < 6) & (a[:, 2] > 5.999))
    b_free = b[:, 2] > 6.001
    turn = rng.random(n // 10) * 2 * np.pi
    wall = np.stack([40 + 8 * np.cos(turn), 22 + 8 * np.sin(turn), 6 * rng.random(len(turn))], 1)
    inward = np.stack([-np.cos(turn), -np.sin(turn), 0 * turn], 1)
    p, normal = np.concatenate([a[a_free], b[b_free], wall]), np.concatenate([na[a_free], nb[b_free], inward])
    keep = rng.permutation(len(p))[:n]
    return p[keep], normal[keep]


def gear(rng, n, teeth=24, mark_mm=3.0):
    """Rim and faces of a gear (radius about 30 mm, 8 mm thick); one round mark on a face tells its teeth apart."""
    turn = rng.random(n) * 2 * np.pi
    radius = 30 + 2 * np.tanh(3 * np.sin(teeth * turn))
    face = rng.random(n) < 0.6
    r = np.where(face, radius * np.sqrt(rng.random(n)), radius)
    z = np.where(face, 8.0 * rng.integers(0, 2, n), 8 * rng.random(n))
    p = np.stack([r * np.cos(turn), r * np.sin(turn), z], 1)
    mark = (np.hypot(p[:, 0] - 22, p[:, 1]) < 4) & (z > 7.9)
    p[mark, 2] += mark_mm
    return p, None


def scan(shape, seed, n=4000, noise=0.03):
    """A noisy scan in a random pose: points [n, 3] (mm), and the pose [4, 4] from the shape's frame to the scan's."""
    rng = np.random.default_rng(seed)
    p, _ = shape(rng, n)
    q = rng.normal(size=4)
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    pose[:3, :3] *= np.linalg.det(pose[:3, :3])
    pose[:3, 3] = 100 * q[:3]
    return move(pose, p + noise * rng.normal(size=p.shape)), pose


def move(pose, p):
    return p @ pose[:3, :3].T + pose[:3, 3]


def error(pose, truth, first):
    """How far the pose puts the corners of a 60 mm cube from where the truth puts them (mm)."""
    corners = 60.0 * np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T
    return np.linalg.norm(move(pose.matrix @ truth, corners) - move(first, corners), axis=1).max()


@pytest.fixture(scope="module")
def bracket():
    scans = [scan(l_bracket, s) for s in range(3)]
    frame, poses = Frame.build([p for p, _ in scans])
    return frame, poses, [t for _, t in scans]


def test_good_scans_share_the_frame_of_the_first(bracket):
    _, poses, truths = bracket
    assert np.allclose(poses[0].matrix, np.eye(4))
    for pose, truth in zip(poses, truths):
        assert pose.ok and error(pose, truth, truths[0]) < 0.3
        assert np.allclose(pose.matrix[:3, :3] @ pose.matrix[:3, :3].T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("spoiled", ["whole", "outliers", "half", "sparse", "dent"])
def test_scan_in_any_pose_is_found(bracket, spoiled):
    frame, _, truths = bracket
    points, truth = scan(l_bracket, 10)
    rng = np.random.default_rng(11)
    if spoiled == "outliers":
        points = np.concatenate([points, points.mean(0) + rng.uniform(-60, 60, (len(points) // 20, 3))])
    elif spoiled == "half":
        points = points[points[:, 0] > np.median(points[:, 0])]
    elif spoiled == "sparse":
        points = points[:1500]
    elif spoiled == "dent":
        local = move(np.linalg.inv(truth), points)
        local[:, 2] -= np.where(np.hypot(local[:, 0] - 20, local[:, 1] - 20) < 9, 2.0, 0)
        points = move(truth, local)
    pose = frame.register(points)
    assert pose.ok and error(pose, truth, truths[0]) < 0.6


def test_one_sided_scan_is_found(bracket):
    frame, _, truths = bracket
    rng = np.random.default_rng(12)
    p, normal = l_bracket(rng, 12000)
    p = p[normal @ np.array([0.5, 0.3, 0.8]) > 0.1]
    _, truth = scan(l_bracket, 13)
    pose = frame.register(move(truth, p))
    assert pose.ok and error(pose, truth, truths[0]) < 0.6


def test_same_result_twice_and_after_saving(bracket):
    frame, _, _ = bracket
    points, _ = scan(l_bracket, 14)
    first = frame.register(points)
    restored = Frame.from_state({k: v.clone() for k, v in frame.state().items()})
    for other in (frame.register(points), restored.register(points)):
        assert np.array_equal(other.matrix, first.matrix)
        assert (other.rms_mm, other.overlap, other.margin) == (first.rms_mm, first.overlap, first.margin)


def test_warped_gears_are_joined_at_their_mark():
    """Any two differ by their warp as much as by the mark: only several together tell which tooth is right."""
    scans, poses = [], []
    for seed in range(10, 14):
        rng = np.random.default_rng(seed)
        p, _ = gear(rng, 6000, mark_mm=1.2)
        p = p + 0.2 * np.sin(0.06 * p @ rng.normal(size=(3, 3)) + rng.uniform(0, 6, 3))
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn *= np.linalg.det(turn)
        scans.append(p @ turn.T + 0.03 * rng.normal(size=p.shape))
        poses.append(turn)
    _, found = Frame.build(scans)
    turns = [f.matrix[:3, :3] @ pose for f, pose in zip(found, poses, strict=True)]
    off = [np.degrees(np.arccos(np.clip((np.trace(t @ turns[0].T) - 1) / 2, -1, 1))) for t in turns]
    assert max(off) < 3, off


def test_gear_does_not_slip_a_tooth():
    scans = [scan(gear, s) for s in range(5)]
    frame, poses = Frame.build([p for p, _ in scans[:2]])
    first = scans[0][1]
    found = [poses[1]] + [frame.register(p) for p, _ in scans[2:]]
    for pose, (_, truth) in zip(found, scans[1:]):
        assert error(pose, truth, first) < 1.0  # one tooth is 8 mm


def test_what_is_left_of_a_heat_sink_is_not_a_fin_aside():
    design = part("heatsink", 101)
    good = [simulate(design, seed=k, points=8000, pose="random" if k else "fixed").points for k in range(3)]
    broken = simulate(design, seed=16, points=8000, defect="break").points
    frame, _ = Frame.build(good)
    off = design.sdf(move(frame.register(broken).matrix, broken))
    assert np.quantile(np.abs(off), 0.95) < 0.005 * design.diagonal


def test_symmetric_part_is_placed_on_itself():
    def rod(rng, n):
        turn, z = rng.random(n) * 2 * np.pi, rng.random(n) * 60
        return np.stack([10 * np.cos(turn), 10 * np.sin(turn), z], 1), None

    scans = [scan(rod, s) for s in range(3)]
    frame, _ = Frame.build([p for p, _ in scans[:2]])
    pose = frame.register(scans[2][0])
    assert pose.ok
    local = move(np.linalg.inv(scans[0][1]) @ pose.matrix, scans[2][0])
    assert np.abs(np.hypot(local[:, 0], local[:, 1]) - 10).mean() < 0.1


def test_another_part_is_refused_with_its_residual(bracket):
    frame, _, _ = bracket
    rng = np.random.default_rng(15)
    pose = frame.register(box(rng, 6000, (0, 0, 0), (50, 40, 30))[0])
    assert not pose.ok and "not this part" in pose.reason and "mm" in pose.reason
    assert pose.rms_mm > MISFIT * frame.reference * frame.scale
    inches = scan(l_bracket, 16)[0] / 25.4
    assert "unit" in frame.register(inches).reason


def test_good_scan_of_another_part_is_named():
    rng = np.random.default_rng(17)
    odd = box(rng, 4000, (0, 0, 0), (50, 40, 30))[0]
    _, poses = Frame.build([scan(l_bracket, 1)[0], odd, scan(l_bracket, 2)[0]])
    assert [p.ok for p in poses] == [True, False, True]
    assert "does not join" in poses[1].reason


def test_scans_as_sparse_as_a_wall_is_thin_are_joined():
    """None covers another as scans of a solid part do; each covers another as well as one half of it the other half."""
    design = part("housing", 103)
    scans = [simulate(design, seed=k, points=8000, pose="random" if k else "fixed") for k in range(3)]
    _, poses = Frame.build([s.points for s in scans])
    assert all(pose.ok for pose in poses)
    for s, pose in zip(scans, poses, strict=True):
        off = design.sdf(move(pose.matrix, s.points))
        assert np.quantile(np.abs(off), 0.95) < 0.005 * design.diagonal
    _, poses = Frame.build([s.points for s in scans[:2]] + [simulate(part("housing", 104), seed=9, points=8000).points])
    assert [pose.ok for pose in poses] == [True, True, False]


def test_views_that_do_not_meet_are_not_joined():
    rng = np.random.default_rng(18)
    up = rng.normal(size=(3000, 3))
    dome = 30 * up / np.linalg.norm(up, axis=1, keepdims=True)
    dome[:, 2] = np.abs(dome[:, 2])
    turn, r = rng.random(3000) * 2 * np.pi, 30 * np.sqrt(rng.random(3000))
    disk = np.stack([r * np.cos(turn), r * np.sin(turn), 0 * r], 1)
    _, poses = Frame.build([dome, move(scan(l_bracket, 19)[1], disk)])
    assert sum(pose.ok for pose in poses) == 1


def test_one_good_scan_is_enough():
    first, truth = scan(l_bracket, 20)
    frame, poses = Frame.build([first])
    assert poses[0].ok
    points, other = scan(l_bracket, 21)
    pose = frame.register(points)
    assert pose.ok and error(pose, other, truth) < 0.6


def test_fixed_pose_leaves_scans_where_they_are():
    clouds = [l_bracket(np.random.default_rng(s), 4000)[0] for s in range(3)]
    frame, poses = Frame.build(clouds[:2], pose="fixed")
    assert all(np.array_equal(p.matrix, np.eye(4)) for p in [*poses, frame.register(clouds[2], pose="fixed")])
    assert frame.register(clouds[2], pose="fixed").ok
    assert not frame.register(clouds[2] + 5, pose="fixed").ok


def test_unusable_input_is_said_in_one_line(bracket):
    frame, _, _ = bracket
    with pytest.raises(InputError, match="points, 3"):
        frame.register(np.zeros((500, 2)))
    with pytest.raises(InputError, match="finite"):
        frame.register(np.full((500, 3), np.nan))
    with pytest.raises(InputError, match="good scans"):
        Frame.build([])


def warped(kind):
    rng = np.random.default_rng(22)
    p, normal = l_bracket(rng, 8000)
    q, _ = l_bracket(rng, 5000)
    middle = np.array([30, 20, 22])
    x = (q - middle) / 76
    bend = {
        "rigid": 0 * x,
        "affine": x @ np.array([[0.004, 0.001, 0], [0, -0.003, 0], [0.002, 0, 0.003]]),
        "quadratic": np.stack([0.012 * x[:, 2] ** 2, 0 * x[:, 0], 0.012 * x[:, 0] * x[:, 1]], 1),
    }[kind]
    turn = rotation_vector_matrix(torch.tensor([0.004, -0.003, 0.005])).numpy()
    q = (q + 76 * bend) @ turn.T + np.array([0.2, -0.1, 0.15])
    stray = rng.random(len(q)) < 0.05
    q[stray] += rng.uniform(-3, 3, (stray.sum(), 3))
    return (torch.from_numpy(a).float() for a in (q, p, normal)), ~torch.from_numpy(stray)


def off_surface(points, surface, normals):
    j = Nearest(surface)(points)[1]
    return ((points - surface[j]) * normals[j]).sum(1).abs()


@pytest.mark.parametrize(
    ("fit", "kind"),
    [(fit_rigid, "rigid"), (fit_affine, "affine"), (fit_quadratic, "affine"), (fit_quadratic, "quadratic")],
)
def test_fit_undoes_what_it_may_undo(fit, kind):
    (q, p, normal), solid = warped(kind)
    before = off_surface(q, p, normal)[solid]
    moved, _ = fit(q, p, normal)
    after = off_surface(moved, p, normal)[solid]
    assert after.quantile(0.9) < 0.03 < before.quantile(0.9)
    if kind == "quadratic":
        stiff = off_surface(fit_rigid(q, p, normal)[0], p, normal)[solid]
        assert stiff.mean() > 2 * after.mean()


def test_fits_take_batches_and_return_the_transform():
    (q, p, normal), _ = warped("rigid")
    q = q.double()
    both = torch.stack([q, q + 0.1])
    moved, matrix = fit_rigid(both, p, normal)
    assert moved.shape == both.shape and matrix.shape == (2, 4, 4)
    assert torch.allclose(both @ matrix[:, :3, :3].transpose(1, 2) + matrix[:, None, :3, 3], moved)
    alone, one = fit_rigid(q, p, normal)
    assert torch.allclose(one, matrix[0]) and torch.allclose(alone, moved[0])
    assert fit_affine(both, p, normal)[1].shape == (2, 3, 4)
    assert fit_quadratic(q, p, normal)[1].shape == (3, 10)


def test_rotation_grid_covers_all_rotations():
    grid = rotation_grid(1500).double()
    assert torch.allclose(grid @ grid.transpose(1, 2), torch.eye(3, dtype=torch.float64), atol=1e-5)
    any_of = rotation_vector_matrix(
        torch.randn(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    )
    trace = torch.einsum("aij,bij->ab", any_of, grid).amax(1)
    assert torch.rad2deg(torch.arccos((trace - 1) / 2)).max() < 18


def test_thin_keeps_the_mean_of_each_voxel():
    points = torch.tensor([[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [1.5, 0.1, 0.1]])
    centroid, count = thin(points, 1.0)
    assert torch.allclose(centroid, torch.tensor([[0.2, 0.1, 0.1], [1.5, 0.1, 0.1]])) and count.tolist() == [2, 1]
