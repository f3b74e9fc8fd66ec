// Two ends of a connection within this process: what is written to one is read from the other.
import { Duplex } from 'node:stream';

class End extends Duplex {
  other: End | null = null;
  /** Called when the other end has room again. */
  #goOn: (() => void) | null = null;

  override _read(): void {
    const goOn = this.#goOn;
    this.#goOn = null;
    goOn?.();
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.other?.receive(chunk, done);
  }

  override _final(done: () => void): void {
    this.other?.receive(null, () => {});
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const { other } = this;
    this.other = null;
    // As a socket whose peer is gone.
    if (other !== null) process.nextTick(() => other.destroy());
    done(error);
  }

  receive(chunk: Buffer | null, done: () => void): void {
    if (this.destroyed) return;
    if (this.push(chunk)) done();
    else this.#goOn = done;
  }
}

export function duplexPair(): [Duplex, Duplex] {
  const [one, other] = [new End(), new End()];
  one.other = other;
  other.other = one;
  return [one, other];
}
