# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The locale that Ansible is started in."""

import locale


def for_ansible() -> dict[str, str]:
    """What to set in Ansible's environment: it starts in no locale but one with UTF-8 that is there.

    An SSH session may bring a locale along that the host does not have; ``LC_ALL=C`` is common in scripts. C.UTF-8 is
    part of glibc since 2.35, and of the common distributions for much longer.
    """
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, "")  # the test that Ansible makes
        found = locale.getlocale()[1]
    except (locale.Error, ValueError):
        found = None
    finally:
        locale.setlocale(locale.LC_ALL, before)
    return {} if found and found.lower() in ("utf-8", "utf8") else {"LC_ALL": "C.UTF-8"}
