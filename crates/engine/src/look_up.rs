//! `wasi:sockets/ip-name-lookup` of 0.2 and 0.3: Wasmtime's own, for the names that may be looked up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    self as p2, HostResolveAddressStream, ResolveAddressStream,
};
use wasmtime_wasi::p2::bindings::sockets::network::{
    self, ErrorCode, HostNetwork, IpAddress, Network,
};
use wasmtime_wasi::p2::{DynPollable, SocketError};
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup as p3;
use wasmtime_wasi::p3::bindings::sockets::types::IpAddress as IpAddress03;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView, WasiSocketsView};

use crate::guard::Guard;
use crate::state::State;

/// Names of the look-ups of 0.2 that are not dropped yet, by their resources.
pub type Names = HashMap<u32, String>;

/// The type by which a linker knows that [`View`] implements the interface.
pub struct LookUp;

impl HasData for LookUp {
    type Data<'a> = View<'a>;
}

/// What the interface is implemented for.
pub struct View<'a> {
    /// Wasmtime's own.
    pub sockets: WasiSocketsCtxView<'a>,
    /// What may be looked up.
    pub guard: &'a Guard,
    /// Names of the look-ups.
    pub names: &'a mut Names,
}

/// Replaces the interface of 0.2 and 0.3 in a linker.
pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    p2::add_to_linker::<_, LookUp>(linker, State::look_up)?;
    p3::add_to_linker::<_, LookUp>(linker, State::look_up)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl p2::Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        if !self.guard.looks_up(&name) {
            return Err(ErrorCode::AccessDenied.into());
        }
        let stream = p2::Host::resolve_addresses(&mut self.sockets, network, name.clone())?;
        if self.guard.needs_names() {
            self.names.insert(stream.rep(), name);
        }
        Ok(stream)
    }
}

impl HostResolveAddressStream for View<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let name = self.names.get(&stream.rep());
        let next = self.sockets.resolve_next_address(stream)?;
        if let (Some(name), Some(address)) = (name, next) {
            self.guard.found(
                name,
                match address {
                    IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
                    IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => {
                        Ipv6Addr::new(a, b, c, d, e, f, g, h).into()
                    }
                },
            );
        }
        Ok(next)
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        self.sockets.subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.names.remove(&stream.rep());
        HostResolveAddressStream::drop(&mut self.sockets, stream)
    }
}

impl network::Host for View<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.sockets.convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.sockets.network_error_code(error)
    }
}

impl HostNetwork for View<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        HostNetwork::drop(&mut self.sockets, network)
    }
}

impl p3::Host for View<'_> {}

impl p3::HostWithStore<State> for LookUp {
    async fn resolve_addresses(
        store: &Accessor<State, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<IpAddress03>, p3::ErrorCode>> {
        if !store.with(|mut access| access.get().guard.looks_up(&name)) {
            return Ok(Err(p3::ErrorCode::AccessDenied));
        }
        let own = store.with_getter::<WasiSockets>(<State as WasiSocketsView>::sockets);
        let found =
            <WasiSockets as p3::HostWithStore<State>>::resolve_addresses(&own, name.clone())
                .await?;
        store.with(|mut access| {
            let guard = access.get().guard;
            let addresses = found.iter().flatten().filter(|_| guard.needs_names());
            addresses.for_each(|address| guard.found(&name, of_03(address)));
        });
        Ok(found)
    }
}

fn of_03(address: &IpAddress03) -> IpAddr {
    match *address {
        IpAddress03::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
        IpAddress03::Ipv6((a, b, c, d, e, f, g, h)) => Ipv6Addr::new(a, b, c, d, e, f, g, h).into(),
    }
}
