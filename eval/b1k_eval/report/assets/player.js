// One or two videos and their timelines under one cursor, a control step.
//
// Picture n of a video is that of control step n * every, the last one that of the last step. A jump
// goes to the middle of a picture's time, so that rounding never shows its neighbour. Videos of two
// runs are kept together by their simulated time: the longer one leads, the other is nudged by its
// speed, and set anew where it is far off.
"use strict";
B1K.Player = (function () {
  const h = B1K.h;

  /** An episode's video, if it has one. */
  class Track {
    constructor(row, detail) {
      this.row = row;
      this.steps = row.steps;
      this.index = detail.video;
      this.video = null;
      this.target = 0;
      this.shown = 0;
      this.pending = null;
      if (this.index) {
        this.make();
      }
    }

    make() {
      const label = `Video of run ${B1K.letter(this.row.run)}, instance ${this.row.instance}`;
      const video = h("video", { src: this.index.src, preload: "auto", playsinline: true, "aria-label": label, tabindex: "-1" });
      video.muted = true;
      this.video = video;
      video.addEventListener("seeked", () => {
        this.show(this.frameAt()); // the browser's own word on it may be some repaints late
        const next = this.pending;
        this.pending = null;
        if (next !== null) {
          this.jump(next);
        }
      });
      video.addEventListener("error", () => {
        this.video = null;
        this.onfail(`The video ${this.index.src} cannot be played here.`);
      });
      this.watch(video);
    }

    onfail() {}

    /** Note which picture is on the screen, as the browser tells it. */
    watch(video) {
      if (!video.requestVideoFrameCallback) {
        return;
      }
      const seen = (_, picture) => {
        this.show(Math.round(picture.mediaTime * this.index.fps));
        video.requestVideoFrameCallback(seen);
      };
      video.requestVideoFrameCallback(seen);
    }

    show(frame) {
      this.shown = frame;
      if (this.video) {
        this.video.dataset.frame = frame;
      }
    }

    frameNow() {
      return this.video.requestVideoFrameCallback ? this.shown : this.frameAt();
    }

    /** The picture of the time at which the video stands. */
    frameAt() {
      const { fps, frames } = this.index;
      return Math.min(Math.floor(this.video.currentTime * fps + 1e-3), frames - 1);
    }

    stepOf(frame) {
      return Math.min(frame * this.index.every, this.steps);
    }

    frameOf(step) {
      const { every, frames } = this.index;
      return step >= this.steps ? frames - 1 : Math.min(Math.floor(step / every), frames - 1);
    }

    /** Show a picture; a jump under way is finished first, and only the last wish is kept. */
    jump(frame) {
      this.target = Math.min(Math.max(frame, 0), this.index.frames - 1);
      if (this.video.seeking) {
        this.pending = this.target;
      } else {
        this.video.currentTime = (this.target + 0.5) / this.index.fps;
      }
    }
  }

  /** `onstep(step)` and `onplay(playing)` are called on every change. */
  class Player {
    constructor(tracks) {
      this.tracks = tracks;
      this.length = Math.max(...tracks.map((track) => track.steps));
      this.step = 0;
      this.rate = 1;
      this.playing = false;
      this.onstep = () => {};
      this.onplay = () => {};
    }

    /** The video that sets the time: that of the longest episode; null without any. */
    get leader() {
      const videos = this.tracks.filter((track) => track.video);
      return videos.reduce((best, track) => (!best || track.steps > best.steps ? track : best), null);
    }

    set(step) {
      this.step = step;
      this.onstep(step);
    }

    seek(step) {
      const target = Math.min(Math.max(Math.round(step), 0), this.length);
      for (const track of this.tracks) {
        if (track.video) {
          track.jump(track.frameOf(target));
        }
      }
      this.set(target);
      if (this.playing) {
        this.resume();
      }
    }

    /** Some pictures on or back; some steps where there is no video. */
    frames(by) {
      this.pause();
      const leader = this.leader;
      if (!leader) {
        this.seek(this.step + by);
        return;
      }
      // By picture, not by step: the last step can have two.
      const frame = Math.min(Math.max(leader.target + by, 0), leader.index.frames - 1);
      this.seek(leader.stepOf(frame));
      leader.jump(frame);
    }

    toggle() {
      this.playing ? this.pause() : this.play();
    }

    play() {
      if (this.step >= this.length) {
        this.seek(0);
      }
      this.playing = true;
      this.clock = null;
      this.onplay(true);
      this.resume();
      requestAnimationFrame((now) => this.tick(now));
    }

    /** Start the videos that have not come to their end. */
    resume() {
      for (const track of this.tracks) {
        if (track.video && this.step < track.steps) {
          track.video.playbackRate = this.rate;
          // A pause before it has begun rejects the promise, which is what was wanted.
          track.video.play().catch(() => {});
        }
      }
    }

    pause() {
      if (!this.playing) {
        return;
      }
      this.playing = false;
      for (const track of this.tracks) {
        if (track.video) {
          track.video.pause();
        }
      }
      this.onplay(false);
      this.seek(this.step); // both on the very same step
    }

    setRate(rate) {
      this.rate = rate;
      for (const track of this.tracks) {
        if (track.video) {
          track.video.playbackRate = rate;
        }
      }
    }

    tick(now) {
      if (!this.playing) {
        return;
      }
      const leader = this.leader;
      if (leader) {
        this.follow(leader);
      } else {
        const passed = this.clock === null ? 0 : (now - this.clock) / 1000;
        this.clock = now;
        this.float = (Math.floor(this.float) === this.step ? this.float : this.step) + passed * this.rate * B1K.RATE;
        this.set(Math.min(Math.floor(this.float), this.length));
      }
      if (leader ? leader.video.ended : this.step >= this.length) {
        this.step = this.length;
        this.pause();
      } else {
        requestAnimationFrame((next) => this.tick(next));
      }
    }

    follow(leader) {
      const { video } = leader;
      if (!video.seeking) {
        leader.target = leader.frameNow();
        const step = leader.stepOf(leader.target);
        if (step !== this.step) {
          this.set(step);
        }
      }
      for (const track of this.tracks) {
        const other = track.video;
        if (track === leader || !other || other.ended || other.seeking || video.seeking || other.paused) {
          continue;
        }
        const drift = other.currentTime - video.currentTime; // both are simulated time [s]
        const picture = 1 / track.index.fps;
        if (Math.abs(drift) > 2 * picture) {
          other.currentTime = video.currentTime;
        }
        const nudge = Math.abs(drift) > picture / 8 ? Math.min(Math.max(2 * drift, -0.2), 0.2) : 0;
        other.playbackRate = this.rate * (1 - nudge);
      }
    }

    close() {
      this.playing = false;
      for (const track of this.tracks) {
        if (track.video) {
          track.video.pause();
          track.video.removeAttribute("src");
          track.video.load(); // lets go of the file
          track.video = null;
        }
      }
    }
  }

  return { Track, Player };
})();
