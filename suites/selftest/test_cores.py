"""How many processors a run may use: made-up machines and containers."""

from __future__ import annotations

import os
import unittest
from unittest import mock

from harness.model import cores
from harness.runner.options import Options, jobs_for
from suites.selftest.support import new_folder

V2_MOUNT = "30 23 0:26 {root} {at} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "31 23 0:27 {root} {at} rw,relatime shared:9 - cgroup cgroup rw,{controllers}\n"


class TestQuota(unittest.TestCase):
    def setUp(self) -> None:
        self.root = new_folder(self)
        cores.cpu_quota.cache_clear()
        self.addCleanup(cores.cpu_quota.cache_clear)

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def process(self, groups: str, mounts: str) -> None:
        self.write("proc/self/cgroup", groups)
        self.write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts)

    def quota(self) -> int | None:
        return cores.cpu_quota(str(self.root))

    def test_no_control_groups(self) -> None:
        self.assertIsNone(self.quota())
        cores.cpu_quota.cache_clear()
        self.process("", "")
        self.assertIsNone(self.quota())

    def test_version_2_in_a_container(self) -> None:
        for text, expected in (
            ("400000 100000\n", 4),
            ("250000 100000\n", 3),
            ("5000 100000\n", 1),
            ("max 100000\n", None),
            ("nonsense\n", None),
            ("", None),
        ):
            with self.subTest(text):
                cores.cpu_quota.cache_clear()
                self.process("0::/\n", V2_MOUNT.format(root="/", at="/sys/fs/cgroup"))
                self.write("/sys/fs/cgroup/cpu.max", text)
                self.assertEqual(self.quota(), expected)

    def test_version_2_takes_the_least_on_the_way_up(self) -> None:
        self.process("0::/jobs/9/step\n", V2_MOUNT.format(root="/", at="/sys/fs/cgroup"))
        self.write("/sys/fs/cgroup/jobs/cpu.max", "800000 100000\n")
        self.write("/sys/fs/cgroup/jobs/9/cpu.max", "150000 50000\n")
        self.write("/sys/fs/cgroup/jobs/9/step/cpu.max", "max 100000\n")
        self.write("/sys/fs/cgroup/jobs/10/cpu.max", "100000 100000\n")  # somebody else's
        self.assertEqual(self.quota(), 3)

    def test_version_1(self) -> None:
        at = "/sys/fs/cgroup/cpu,cpuacct"
        mount = V1_MOUNT.format(root="/", at=at, controllers="cpu,cpuacct")
        for quota, expected in (("600000", 6), ("-1", None), ("610000", 7)):
            with self.subTest(quota):
                cores.cpu_quota.cache_clear()
                self.process("5:cpu,cpuacct:/slurm/job\n4:memory:/x\n", mount)
                self.write(f"{at}/slurm/job/cpu.cfs_quota_us", f"{quota}\n")
                self.write(f"{at}/slurm/job/cpu.cfs_period_us", "100000\n")
                self.assertEqual(self.quota(), expected)

    def test_version_1_in_a_container_that_sees_the_hosts_path(self) -> None:
        at, group = "/sys/fs/cgroup/cpu\\040set", "/docker/0a1b"
        self.process(
            f"7:cpuset:/\n5:cpu:{group}\n",
            V1_MOUNT.format(root="/", at="/sys/fs/cgroup/cpuset", controllers="cpuset")
            + V1_MOUNT.format(root=group, at=at, controllers="cpu"),
        )
        self.write("/sys/fs/cgroup/cpu set/cpu.cfs_quota_us", "200000\n")
        self.write("/sys/fs/cgroup/cpu set/cpu.cfs_period_us", "100000\n")
        self.assertEqual(self.quota(), 2)

    def test_both_versions_at_once(self) -> None:
        self.process(
            "3:cpu:/a\n0::/b\n",
            V1_MOUNT.format(root="/", at="/cg/cpu", controllers="cpu")
            + V2_MOUNT.format(root="/", at="/cg/unified"),
        )
        self.write("/cg/unified/b/cpu.max", "500000 100000\n")
        self.assertEqual(self.quota(), 5)
        cores.cpu_quota.cache_clear()
        self.write("/cg/cpu/a/cpu.cfs_quota_us", "300000\n")
        self.write("/cg/cpu/a/cpu.cfs_period_us", "100000\n")
        self.assertEqual(self.quota(), 3)

    def test_a_group_that_is_not_below_the_mount(self) -> None:
        self.process("0::/../../other\n", V2_MOUNT.format(root="/", at="/sys/fs/cgroup"))
        self.write("/sys/fs/cgroup/cpu.max", "200000 100000\n")
        self.assertEqual(self.quota(), 2)


class TestCount(unittest.TestCase):
    def test_the_least_of_affinity_and_quota(self) -> None:
        for affinity, quota, expected in ((192, 4, 4), (2, 4, 2), (3, None, 3), (1, 1, 1)):
            with (
                self.subTest(affinity=affinity, quota=quota),
                mock.patch.object(os, "sched_getaffinity", return_value=set(range(affinity))),
                mock.patch.object(cores, "cpu_quota", return_value=quota),
            ):
                self.assertEqual(cores.core_count(), expected)
                self.assertEqual(jobs_for(Options(), is_script=False), min(2 * expected, 16))

    def test_what_pythons_own_count_says_counts(self) -> None:
        with (
            mock.patch.object(os, "process_cpu_count", return_value=5, create=True),
            mock.patch.object(cores, "cpu_quota", return_value=None),
        ):
            self.assertEqual(cores.core_count(), 5)


if __name__ == "__main__":
    unittest.main()
