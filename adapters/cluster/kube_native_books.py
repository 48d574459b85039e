"""What is known of users' jobs where they are adopted from, by `KubeNative.ref`; and changes of them."""

from collections.abc import Callable, Iterable, Mapping

from adapters.cluster.kube_book import KubeBook
from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_native_hand import Notes, change, note_event
from adapters.cluster.kube_native_record import KubeNative, Place, parse_ref
from adapters.cluster.kube_records import KubePod
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError
from adapters.cluster.kueue_natives import QueuedNatives
from scheduler.core.errors import ClusterUnavailableError


class NativeBooks:
    """One book for each namespace and kind.

    Args:
        wall: wall clock in Unix seconds.
        queued: of each place whose jobs may be in queues of Kueue.

    What is not known and cannot be asked raises ClusterUnavailableError.
    """

    def __init__(
        self,
        client: KubeClient,
        books: Mapping[Place, KubeBook[KubeNative]],
        *,
        wall: Callable[[], float],
        queued: Mapping[Place, QueuedNatives] | None = None,
    ) -> None:
        self.client = client
        self._queued = dict(queued or {})
        self._books = dict(books)
        self._wall = wall

    @property
    def places(self) -> tuple[Place, ...]:
        """All of them."""
        return tuple(self._books)

    def trouble(self, place: Place) -> str | None:
        """Why the copies of that place may be old; None where they are not. Starts them at the first call."""
        try:
            self._books[place].require_current()
        except ClusterUnavailableError as error:
            return error.message
        return None

    def reachable(self) -> tuple[Place, ...]:
        """The places whose copies are up to date.

        Raises:
            ClusterUnavailableError: none of them is.
        """
        errors = list[ClusterUnavailableError]()
        found = list[Place]()
        for book in self._books.values():
            book.start()
        for place, book in self._books.items():
            try:
                book.require_current()
            except ClusterUnavailableError as error:
                errors.append(error)
            else:
                found.append(place)
        if errors and not found:
            raise errors[0]
        return tuple(found)

    def join(self, within_s: float) -> None:
        """Waits for the watches to end, after the client's stop was set."""
        for book in self._books.values():
            book.join(within_s)

    def jobs(self, places: Iterable[Place]) -> list[KubeNative]:
        """Every job that there is in these places, whether it asks for anything or not."""
        return [self._seen(job) for place in places for job in self._books[place].jobs.items()]

    def pods_of(self, job: KubeNative) -> list[KubePod]:
        """Every pod of the Job that is known, also those that are gone."""
        return self._books[job.place].pods_of(job)

    def pods_now(self, job: KubeNative) -> list[KubePod]:
        """Those of its pods that are there."""
        return self._books[job.place].pods_now(job)

    def known(self, ref: str) -> KubeNative | None:
        """The Job by the copies, also one that has ended and is gone; None where there is no trace of it."""
        place, name, uid = parse_ref(ref)
        book = self._books.get(place)
        if book is None:
            return None
        job = book.jobs.find(name)
        if job is not None and job.owner == uid:
            return self._seen(job)
        return next((one for one in book.jobs.gone(uid) if one.end), None)

    def unread(self, ref: str) -> str | None:
        """Why the Job cannot be read as it is now; None where it can, or is not there."""
        place, name, _ = parse_ref(ref)
        return self._books[place].jobs.unread(name) if place in self._books else None

    def find(self, ref: str) -> KubeNative | None:
        """The Job as it is there now, by the copy, or else by the cluster's word."""
        place, name, uid = parse_ref(ref)
        book = self._books.get(place)
        if book is None:
            return None
        book.require_current()
        job = book.find(name)
        return self._seen(job) if job is not None and job.owner == uid else None

    def change(
        self,
        job: KubeNative,
        notes: Notes,
        *,
        suspend: bool | None = None,
        event: tuple[str, str] | None = None,
    ) -> KubeNative | None:
        """The Job after the change, of which the event tells; None where it is not any more what was seen."""
        try:
            after = change(self.client, job, notes, suspend=suspend)
        except (KubeRefusedError, KubeSilentError) as error:
            raise self._books[job.place].unavailable(error) from error
        if after is None:
            self.refresh(job)
            return None
        self.put(after)
        self.follow(after)
        if event is not None:
            note_event(self.client, after, *event, wall_s=self._wall())
        return self._seen(after)

    def words(self, job: KubeNative) -> str:
        """What a queue says of why it has no pods."""
        queued = self._queued.get(job.place)
        return "" if queued is None else queued.words(job)

    def follow(self, job: KubeNative) -> None:
        """Makes what else decides on its pods do what its marks say, where that is not the case already."""
        queued = self._queued.get(job.place)
        # By the copy: what was seen of a queued Job is not what the API told.
        told = self._books[job.place].jobs.find(job.name)
        if queued is None or told is None or told.owner != job.owner:
            return
        try:
            queued.follow(told)
        except (KubeRefusedError, KubeSilentError) as error:
            raise self._books[job.place].unavailable(error) from error

    def answer(self, places: Iterable[Place], *, is_ours: Callable[[KubeNative], bool]) -> None:
        """Lets pass what no queue is to hold for us."""
        for place in places:
            if (queued := self._queued.get(place)) is None:
                continue
            try:
                queued.answer(self.jobs((place,)), is_ours=is_ours, is_all=False)
            except (KubeRefusedError, KubeSilentError) as error:
                raise self._books[place].unavailable(error) from error

    def _seen(self, job: KubeNative) -> KubeNative:
        queued = self._queued.get(job.place)
        return job if queued is None else queued.seen(job)

    def put(self, job: KubeNative) -> None:
        """Takes what was made of a Job, before the watch tells of it."""
        self._books[job.place].jobs.take(job)

    def refresh(self, job: KubeNative) -> None:
        """Puts the Job as it is now into the copy, which may be behind for as long as nothing happens to it."""
        book = self._books[job.place]
        now = book.ask(job.name)
        if now is None or now.owner != job.owner:
            book.jobs.drop(job.name, job.owner)
        if now is not None:
            book.jobs.take(now)
